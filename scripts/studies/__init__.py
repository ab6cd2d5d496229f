"""Studies of this package's own choices: many trainings, a table and a plot. Repeatable, and not shipped."""
