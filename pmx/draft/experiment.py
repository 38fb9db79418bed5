"""The draft of an experiment as YAML text: lives where enough failures are on record, an anomaly score otherwise."""

from __future__ import annotations

from pmx.draft.card import Page
from pmx.draft.plan import ENOUGH, Plan, horizons

SLOWER = 30  # the horizon over the half-life of the score's running mean


def experiment_text(plan: Plan, card: str) -> str:
    """The experiment of a plant.

    Args:
        plan: what was guessed.
        card: the card's path, as the experiment names it.
    """
    lives = plan.lives()
    failures = plan.work.failures() if plan.work else 0
    calendar = plan.grid.clock == "calendar"
    together = plan.grid.together
    window = "by_time" if calendar and (lives or together) else "by_asset" if lives else "head"
    page = Page()
    page.say(f"{failures} failures are on record within the readings; {ENOUGH} are needed to predict lives.")
    page.add("defaults")
    choices = {"source": "table", "window": window}
    choices |= {"feature": "history", "model": "[lightgbm]"} if lives else {"feature": "lags", "model": "[pca]"}
    page.lines += ["  - run", *(f"  - override {group}: {name}" for group, name in {**choices, "evaluate": "rul"}.items()), "  - _self_"]
    page.say()
    page.add("name", plan.plant)
    life = f"How long will the {plan.noun} of {plan.plant} run until they fail?"
    page.add("question", life if lives else f"Do readings of {plan.plant} depart from normal in the days before a failure?")
    page.add("on_error", "quarantine", note="bad rows are set aside by name, the others are worked on")
    if not lives:
        page.add("fit_scope", "asset", guess="too few failures to learn from others; each asset is its own normal")
    page.add("source")
    page.add("card", card, depth=1)
    if window == "head":
        page.add("window")
        page.add("rows", max(50, int(plan.grid.span / plan.grid.tick * 0.4)), guess="40 % of the longest history", depth=1)
    if not lives:
        page.add("alarm")
        page.lines.append("  margin: 2.0  # guessed: the limit as a multiple of what healthy readings stay below; lower it to hear more")
    horizon, lead, cap = horizons(plan)
    unit = plan.grid.life_unit
    page.add("evaluate")
    page.add("cap", cap, guess=f"{unit}; beyond this, lives count as equal", depth=1)
    page.add("horizon", horizon, guess=f"{unit}; an alarm should come at most this long before a failure", depth=1)
    page.add("lead", lead, guess=f"{unit}; and at least this long, to act on it", depth=1)
    if not lives:
        smooth = max(5, round(horizon / SLOWER / plan.grid.tick))
        page.add("model")
        page.lines.append(f"  pca: {{smooth: {smooth}}}  # guessed: ticks; what fails builds up slowly, a start or a load change passes")
    return page.text()
