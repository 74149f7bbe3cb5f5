"""The Studio without a server: models as ONNX files in a folder of static pages, which browsers run themselves."""

from unistep.serving.offline.page import Page, export_page

__all__ = ["Page", "export_page"]
