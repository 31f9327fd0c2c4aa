"""The notebook in examples/: it runs from top to bottom, and is stored without outputs."""

import re
from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).parents[1] / "examples/protect_your_own_model.ipynb"


@pytest.mark.filterwarnings("default")  # what Jupyter's own machinery warns of is not the notebook's
def test_the_notebook_runs_from_top_to_bottom(tmp_path):
    nbclient = pytest.importorskip("nbclient", reason="found no nbclient: pip install nbclient ipykernel")
    pytest.importorskip("ipykernel", reason="found no ipykernel: pip install nbclient ipykernel")
    nbformat = pytest.importorskip("nbformat", reason="found no nbformat: pip install nbclient")

    notebook = nbformat.read(NOTEBOOK, as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in cells), "clear the outputs before you commit"

    nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}).execute()

    said = ["".join(output.get("text", "") for output in cell.outputs) for cell in cells]
    assert [output.text for cell in cells for output in cell.outputs if output.get("name") == "stderr"] == []
    assert "strongest attackers still read" in said[2]
    assert float(re.search(r"accuracy over gRPC ([\d.]+)", said[-1])[1]) > 0.5
    assert (tmp_path / "saved_models/digits/report/1/MODEL_CARD.md").exists()
