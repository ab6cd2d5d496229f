"""What a run writes and reports: its folder, TensorBoard events, the step log, plots and callbacks."""
