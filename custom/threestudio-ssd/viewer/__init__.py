"""Windows onto scenes in a browser: look, select and edit; watch a run; hand a result to another viewer."""
