"""The inner face of `autodiff`: what the rooms built on it need beyond its derivatives.

Other rooms import these names from here; nothing about them is promised to users.
"""

from jaxopt_tut.autodiff.mixed import with_rounded_products

__all__ = ["with_rounded_products"]
