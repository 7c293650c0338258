"""Activity recognition: windows of body-worn sensors. One person is left out, and a model is then adapted to them."""
