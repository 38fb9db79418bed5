"""Folds, candidates and alarm limits on validation; the choice of the winner. Nothing here sees the test part."""
