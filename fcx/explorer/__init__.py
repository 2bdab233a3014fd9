"""Region attributions by hand: one ES module, for JupyterLab with a kernel and for a page without one."""
