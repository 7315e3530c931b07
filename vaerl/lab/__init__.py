"""The laboratory: cells of an experiment run, resumed, tabled, drawn and recorded."""
