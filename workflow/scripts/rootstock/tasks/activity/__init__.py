"""Activity recognition: windows of body-worn sensors, one person left out of base training and then fine-tuned on."""
