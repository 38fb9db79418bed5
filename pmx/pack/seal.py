"""`seal`: evidence, card and bill of materials around a core that was replayed, and the manifest over all of them."""

from __future__ import annotations

import os
import uuid
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pmx
from pmx.bundle import FORMAT, Bundle, core_of, digest, to_json


def seal(folder: Path, core: str, evidence: dict[str, Any], card: str) -> None:
    """Adds `evidence.json`, `card.md`, `sbom.cdx.json` and, last, `manifest.json` to a packed bundle.

    Args:
        core: the core digest that was replayed; refused when the folder holds another.
        evidence: metrics, gates, budget and where they come from; the digest is added.
        card: Markdown for people.
    """
    bundle = Bundle.open(folder, packed_as=core)
    files = {name: bundle.files[name] for name in core_of(bundle.files)}
    files["evidence.json"] = to_json({**evidence, "core_digest": core})
    files["card.md"] = card.encode()
    files["sbom.cdx.json"] = to_json(_bill(core))
    hashes = {name: digest(data) for name, data in files.items()}
    files["manifest.json"] = to_json(
        {"format": FORMAT, "name": bundle.spec.name, "version": pmx.__version__, "core_digest": core, "files": hashes}
    )
    for name in ("evidence.json", "card.md", "sbom.cdx.json", "manifest.json"):
        part = folder.parent / f".{name}.{os.getpid()}.part"
        part.write_bytes(files[name])
        os.replace(part, folder / name)


def _bill(core: str) -> dict[str, Any]:
    """CycloneDX 1.6: the model and the libraries a device runs it with. Its serial number follows from the core digest."""
    libraries = [
        {"type": "library", "name": n, "version": version(n), "purl": f"pkg:pypi/{n}@{version(n)}", "bom-ref": n}
        for n in ("numpy", "onnxruntime")
    ]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, core)}",
        "version": 1,
        "metadata": {
            "component": {
                "type": "machine-learning-model",
                "name": "pmx bundle",
                "version": core[:12],
                "hashes": [{"alg": "SHA-256", "content": core}],
                "bom-ref": "bundle",
            }
        },
        "components": libraries + [{"type": "library", "name": "pmx-maintenance", "version": pmx.__version__, "bom-ref": "pmx"}],
        "dependencies": [{"ref": "bundle", "dependsOn": ["pmx"]}, {"ref": "pmx", "dependsOn": ["numpy", "onnxruntime"]}],
    }
