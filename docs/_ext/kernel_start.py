import warnings

import matplotlib_inline.backend_inline

matplotlib_inline.backend_inline.set_matplotlib_formats("svg")
warnings.simplefilter("error")
warnings.filterwarnings("ignore", module=r"ipykernel|jupyter_client|tornado|traitlets|zmq")
