"""Language models: pretrain a trunk once, cool it down and branch it into domains many times, generate text."""
