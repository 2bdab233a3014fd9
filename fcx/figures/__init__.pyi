from .agreed_findings import attention_claim_verdicts, attention_claims_folded, attention_findings, attention_table
from .agreement_charts import TABLE3, ccc_chart, difference_chart, prediction_scatter
from .average_face import face_picture
from .card_pictures import maps_picture, masks_picture, training_picture, validity_picture
from .faithfulness_charts import faithfulness_chart, faithfulness_rows
from .findings import comparison_findings
from .known_truth_charts import (
    architecture_table,
    densest_table,
    found_chart,
    truth_gallery,
    validity_chart,
    validity_findings,
    validity_table,
)
from .landmark_charts import failure_gallery, landmark_table, mask_shift_chart, robustness_chart
from .leakage_charts import leakage_chart, leakage_findings
from .maps_told import methods_told, networks_told
from .mask_galleries import style_gallery, wearing_gallery
from .opening import Opening, Picture, Verdict, Verdicts
from .openings import (
    attribution_opening,
    comparison_opening,
    faces_limits,
    masks_opening,
    run_limits,
    training_opening,
)
from .panels import choose_faces, mask_gallery, region_overlay, saliency_panel
from .profiles_told import profile_findings
from .region_charts import mask_area_chart, region_chart
from .search_charts import search_chart, search_findings
from .study_charts import (
    contrast_chart,
    cost_chart,
    curve_chart,
    efficiency_chart,
    expression_chart,
    family_chart,
    forgetting_chart,
    ladder_chart,
)
from .study_findings import (
    ceiling_findings,
    claim_verdicts,
    efficiency_findings,
    family_findings,
    missed_findings,
    reason_findings,
)
from .tables import (
    Finding,
    Findings,
    Provenance,
    Table,
    accuracy_table,
    agreement_table,
    coverage_table,
    inhibition_table,
    method_table,
    place_table,
    provenance_table,
)
from .truth_opening import validity_opening
