from .agreed_findings import (
    attention_claim_verdicts as attention_claim_verdicts,
    attention_claims_folded as attention_claims_folded,
    attention_findings as attention_findings,
    attention_table as attention_table,
)
from .agreement_charts import (
    TABLE3 as TABLE3,
    ccc_chart as ccc_chart,
    difference_chart as difference_chart,
    prediction_scatter as prediction_scatter,
)
from .attention_opening import comparison_opening as comparison_opening
from .average_face import face_picture as face_picture
from .card_pictures import (
    maps_picture as maps_picture,
    masks_picture as masks_picture,
    training_picture as training_picture,
    validity_picture as validity_picture,
)
from .faithfulness_charts import faithfulness_chart as faithfulness_chart, faithfulness_rows as faithfulness_rows
from .findings import comparison_findings as comparison_findings
from .known_truth_charts import (
    architecture_table as architecture_table,
    densest_table as densest_table,
    found_chart as found_chart,
    truth_gallery as truth_gallery,
    validity_chart as validity_chart,
    validity_findings as validity_findings,
    validity_table as validity_table,
)
from .landmark_charts import (
    failure_gallery as failure_gallery,
    landmark_table as landmark_table,
    mask_shift_chart as mask_shift_chart,
    robustness_chart as robustness_chart,
)
from .leakage_charts import leakage_chart as leakage_chart, leakage_findings as leakage_findings
from .maps_told import families_told as families_told, methods_told as methods_told, networks_told as networks_told
from .mask_galleries import style_gallery as style_gallery, wearing_gallery as wearing_gallery
from .opening import Opening as Opening, Picture as Picture, Verdict as Verdict, Verdicts as Verdicts
from .openings import (
    attribution_opening as attribution_opening,
    faces_limits as faces_limits,
    masks_opening as masks_opening,
    run_limits as run_limits,
    training_opening as training_opening,
)
from .panels import (
    choose_faces as choose_faces,
    mask_gallery as mask_gallery,
    region_overlay as region_overlay,
    saliency_panel as saliency_panel,
)
from .profiles_told import profile_findings as profile_findings
from .region_charts import mask_area_chart as mask_area_chart, region_chart as region_chart
from .search_charts import search_chart as search_chart, search_findings as search_findings
from .study_charts import (
    contrast_chart as contrast_chart,
    cost_chart as cost_chart,
    curve_chart as curve_chart,
    efficiency_chart as efficiency_chart,
    expression_chart as expression_chart,
    family_chart as family_chart,
    forgetting_chart as forgetting_chart,
    ladder_chart as ladder_chart,
)
from .study_findings import (
    ceiling_findings as ceiling_findings,
    claim_verdicts as claim_verdicts,
    efficiency_findings as efficiency_findings,
    family_findings as family_findings,
    missed_findings as missed_findings,
    reason_findings as reason_findings,
)
from .tables import (
    Absent as Absent,
    Finding as Finding,
    Findings as Findings,
    Provenance as Provenance,
    Table as Table,
    accuracy_table as accuracy_table,
    agreement_table as agreement_table,
    coverage_table as coverage_table,
    inhibition_table as inhibition_table,
    method_table as method_table,
    place_table as place_table,
    provenance_table as provenance_table,
)
from .truth_opening import validity_opening as validity_opening
