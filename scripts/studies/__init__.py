"""Studies of this package's design choices: many training runs each, with a table and a plot. Not packaged."""
