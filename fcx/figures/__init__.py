"""Results -> Plotly figures that carry an alternative text and the table of their numbers; tables; findings."""

from fcx.figures.agreement_charts import TABLE3, ccc_chart, difference_chart, prediction_scatter
from fcx.figures.faithfulness_charts import faithfulness_chart, faithfulness_rows
from fcx.figures.findings import comparison_findings
from fcx.figures.known_truth_charts import (
    densest_table,
    truth_gallery,
    validity_chart,
    validity_findings,
    validity_table,
)
from fcx.figures.landmark_charts import failure_gallery, landmark_table, mask_shift_chart, robustness_chart
from fcx.figures.leakage_charts import leakage_chart, leakage_findings
from fcx.figures.mask_galleries import style_gallery, wearing_gallery
from fcx.figures.panels import choose_faces, mask_gallery, region_overlay, saliency_panel
from fcx.figures.region_charts import mask_area_chart, region_chart
from fcx.figures.tables import (
    Finding,
    Findings,
    Provenance,
    Table,
    agreement_table,
    coverage_table,
    method_table,
    provenance_table,
)

__all__ = [
    "TABLE3",
    "Finding",
    "Findings",
    "Provenance",
    "Table",
    "agreement_table",
    "ccc_chart",
    "choose_faces",
    "comparison_findings",
    "coverage_table",
    "densest_table",
    "difference_chart",
    "failure_gallery",
    "faithfulness_chart",
    "faithfulness_rows",
    "landmark_table",
    "leakage_chart",
    "leakage_findings",
    "mask_area_chart",
    "mask_gallery",
    "mask_shift_chart",
    "method_table",
    "prediction_scatter",
    "provenance_table",
    "region_chart",
    "region_overlay",
    "robustness_chart",
    "saliency_panel",
    "style_gallery",
    "truth_gallery",
    "validity_chart",
    "validity_findings",
    "validity_table",
    "wearing_gallery",
]
