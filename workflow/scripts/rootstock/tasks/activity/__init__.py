"""Activity recognition: windows of body-worn sensors, one person left out and then personalised on."""
