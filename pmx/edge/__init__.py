"""What runs on the device: adapters in, buffer, step, alarm, outbox, replay. Needs numpy and onnxruntime alone."""
