"""First drafts of a plant's card and experiment, guessed from its raw files. Every guess says why, and what nobody can guess is asked."""
