import hashlib
import os
import pathlib
import warnings

from IPython import get_ipython


def picture(shown):
    """Show a figure of the library, and leave what it looks like on a dark page for the site."""
    from jaxopt_tut.plotting.dark import darkened

    light, size = shown._repr_png_()
    with darkened(shown.get_figure(root=True)):
        dark, _ = shown._repr_png_()
    name = hashlib.sha256(light).hexdigest() + ".png"
    pathlib.Path(os.environ["SITE_DARK_FIGURES"], name).write_bytes(dark)
    return light, size


get_ipython().display_formatter.formatters["image/png"].for_type_by_name(
    "jaxopt_tut.plotting.figures", "_Shown", picture
)
warnings.simplefilter("error")
warnings.filterwarnings("ignore", module=r"ipykernel|jupyter_client|tornado|traitlets|zmq")
