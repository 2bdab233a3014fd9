from .attention_claims import (
    ATTENTION_CLAIMS,
    attention_claim,
    attention_claim_table,
    attention_verdicts,
    by_all_methods,
)
from .claims import CLAIMS, claim, claim_table, overall
from .contrasts import contrast, drawn_scores, families_of
from .costs import multiply_adds, trained_parameters
from .interpolation import interpolate
from .ladder_tables import ladder_matrix, ladder_reasons
from .stored_scores import Study, has_labels, labelled_faces, open_scores, read_study, scores_table
from .study_tables import (
    by_expression,
    calibration_table,
    differences_table,
    efficiency_differences,
    efficiency_table,
    error_shares,
    forgetting_table,
    gains_table,
    parts_table,
    table2_rows,
    table3,
)
from .training_plan import LADDER_MASKS, PARTS, Scale, Training, family_title, part, trainings_of
from .training_speed import images_a_second, training_hours
from .trainings import experiment
