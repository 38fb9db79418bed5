"""Which ticks train and which test, what each tick's label is, and where a validation looks."""
