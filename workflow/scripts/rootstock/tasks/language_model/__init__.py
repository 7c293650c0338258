"""Language models: a trunk pretrained once, cooled down and branched into domains many times, talked to."""
