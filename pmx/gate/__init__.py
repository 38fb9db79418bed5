"""Gates: tests that try to break a result before it is registered. Each names its culprit. Passing is evidence, not proof."""
