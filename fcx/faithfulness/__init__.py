"""Is a map true to the model? Measures by removal and randomisation, and faces where the truth is known."""

from fcx.core.rooms import load_modules

load_modules(__name__, __path__)  # measures and controls register themselves
