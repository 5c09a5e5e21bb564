// Adapters as mlx-lm keeps them: adapter_config.json with the arguments of the training (lora_parameters,
// fine_tune_type) and adapters.safetensors with "model.layers.0.self_attn.q_proj.lora_a" [in, r] and
// ".lora_b" [r, out] (both transposed against PEFT's), DoRA's magnitude as ".m". The update is
// scale * (x lora_a) lora_b; the scale is the config's own number and no quotient.
#pragma once
#include "formats/peft_folder.h"

namespace retort {

// Whether adapter_config.json says so; false where there is none.
bool is_mlx_adapter(const std::filesystem::path& folder);

// FormatError for fine_tune_type full, adapters of embeddings or of all experts at once, and a config whose
// scale two versions of mlx-lm would read differently.
PeftAdapter open_mlx_adapter(const std::filesystem::path& folder);

}  // namespace retort
