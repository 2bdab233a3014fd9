"""Is a map true to the model? Measures by removal and randomisation, and faces where the truth is known."""
