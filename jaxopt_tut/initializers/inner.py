"""What other rooms need of the initializers beyond their public names; it promises nothing."""

from jaxopt_tut.initializers.arguments import Axes

__all__ = ["Axes"]
