// Over how much of the held-out data a file is compared with the model that it was made of.
#pragma once
#include "export/export_spec.h"
#include "forest/samples.h"

namespace retort {

// How many of the first held-out samples: enough supervised tokens to tell a good file from a bad one. An
// adapter on its base is the arithmetic of the trained model: the first rows show a difference if there is
// one.
size_t samples_to_compare(const ExportSpec& spec, bool whole_model, const Samples& held_out);

}  // namespace retort
