"""A stand-in for a model service: it checks its configuration, then loads a model.

The key comes from the environment of the container, never from the image.
"""

import os
import sys

import numpy


def require(name: str) -> str:
    """Returns the variable, or ends the process with a plain sentence and code 1."""
    value = os.environ.get(name, "")
    if not value:
        print(f"CRITICAL: the variable {name} is not set.")
        print(f"This container does not start without it: run it with -e {name}=...")
        sys.exit(1)
    return value


def load_model() -> numpy.ndarray:
    """Makes the weights of a tiny linear model; a real service would read them."""
    return numpy.linspace(-1.0, 1.0, 8)


def main() -> None:
    require("MODEL_API_KEY")
    print(f"Configuration loaded, environment: {os.environ.get('ENV', 'production')}")
    weights = load_model()
    score = float(weights @ numpy.arange(8))
    print(f"SUCCESS: the model is running ({weights.size} weights, check sum {score:.3f}).")


if __name__ == "__main__":
    main()
