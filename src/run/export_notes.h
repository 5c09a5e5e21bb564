// What a report says about an export that is not as good as it could be, and why.
#pragma once
#include <string>

#include "eval/compare.h"
#include "export/artefacts.h"
#include "models/model_spec.h"

namespace retort {

// Where rounding changes the weights by a notable share of what the training changed them; "" elsewhere.
std::string describe_rounding(const Artefact& artefact);

// How the export differs from the trained model where that is not rated good, the cause, and what helps; ""
// where it is good.
std::string describe_fidelity(const Artefact& artefact, const Agreement& agreement, const ModelSpec& base);

}  // namespace retort
