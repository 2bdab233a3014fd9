from .attention_claims import (
    ATTENTION_CLAIMS as ATTENTION_CLAIMS,
    attention_claim as attention_claim,
    attention_claim_table as attention_claim_table,
    attention_verdicts as attention_verdicts,
    by_all_methods as by_all_methods,
)
from .claims import CLAIMS as CLAIMS, claim as claim, claim_table as claim_table, overall as overall
from .contrasts import contrast as contrast, drawn_scores as drawn_scores, families_of as families_of
from .costs import multiply_adds as multiply_adds, trained_parameters as trained_parameters
from .interpolation import interpolate as interpolate
from .ladder_tables import ladder_matrix as ladder_matrix, ladder_reasons as ladder_reasons
from .stored_scores import (
    Study as Study,
    has_labels as has_labels,
    labelled_faces as labelled_faces,
    open_scores as open_scores,
    read_study as read_study,
    scores_table as scores_table,
    study_of as study_of,
)
from .study_tables import (
    by_expression as by_expression,
    calibration_table as calibration_table,
    differences_table as differences_table,
    efficiency_differences as efficiency_differences,
    efficiency_table as efficiency_table,
    error_shares as error_shares,
    forgetting_table as forgetting_table,
    gains_table as gains_table,
    parts_table as parts_table,
    table2_rows as table2_rows,
    table3 as table3,
)
from .training_plan import (
    LADDER_MASKS as LADDER_MASKS,
    PARTS as PARTS,
    Scale as Scale,
    Training as Training,
    family_title as family_title,
    part as part,
    trainings_of as trainings_of,
)
from .training_speed import images_a_second as images_a_second, training_hours as training_hours
from .trainings import experiment as experiment
