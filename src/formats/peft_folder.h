// PEFT adapter folders: adapter_config.json and adapter_model.safetensors (peft 0.21; layout in
// docs/formats.md). The folder of the base model that a config names is information only: it is never opened.
#pragma once
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "formats/weight_file.h"

namespace retort {

struct PeftConfig {
  std::string base_model_name_or_path;  // information only
  int64_t r = 8;
  double lora_alpha = 8, lora_dropout = 0;
  std::vector<std::string> target_modules;     // names of linear layers: "q_proj"
  std::vector<std::string> target_parameters;  // names of matrices: "shared_experts.up_proj.weight"
  std::string target_pattern;                  // instead of names: a regular expression, or "all-linear"
  bool use_rslora = false, use_dora = false;
  std::vector<std::string> modules_to_save;  // trained in full: "lm_head"
  // Rows that are trained alone, by the name of their matrix: "embed_tokens", "lm_head".
  std::vector<std::pair<std::string, std::vector<int64_t>>> trainable_tokens = {};
  // Exceptions to r and lora_alpha; keys are regular expressions as PEFT matches them, the first that matches
  // counts.
  std::vector<std::pair<std::string, int64_t>> rank_pattern;
  std::vector<std::pair<std::string, double>> alpha_pattern;
};

// adapter_config.json. FormatError for every setting that would change the arithmetic and is not supported (a
// bias, fan_in_fan_out, lora_bias, initialisations that alter the base weights, variants other than LoRA,
// rsLoRA and DoRA, unknown keys that are set).
PeftConfig parse_peft_config(std::string_view text, std::string_view file);
std::string peft_config_text(const PeftConfig& config);  // all fields that peft 0.21 writes, sorted, indented

int64_t peft_rank(const PeftConfig& config, std::string_view module);
double peft_alpha(const PeftConfig& config, std::string_view module);
// What B A is multiplied with: alpha / r, or alpha / sqrt(r) (rsLoRA, arXiv:2312.03732).
double peft_scaling(const PeftConfig& config, std::string_view module);

// One adapted linear layer. W' = W + scaling B A, or DoRA's rescaling of that by `magnitude`
// (arXiv:2402.09353).
struct PeftModule {
  std::string name;                       // path in the base model: "model.layers.0.self_attn.q_proj"
  const TensorView* a = nullptr;          // [r, in]; [in, r] where transposed
  const TensorView* b = nullptr;          // [out, r]; [r, out] where transposed
  const TensorView* magnitude = nullptr;  // [out], DoRA only
  double scaling = 1;
  bool transposed = false;  // mlx-lm's way (formats/mlx_adapter.h), and that of an adapted embedding
  // An embedding's, seen as the linear layer from hidden states to tokens: `a` is what PEFT calls
  // lora_embedding_B [in, r], `b` its lora_embedding_A [r, out].
  bool looked_up = false;
};
// A, B and DoRA's magnitude are there, dense, of agreeing shapes and of this rank. FormatError.
void check_adapter_module(const PeftModule& module, int64_t rank, bool dora, const std::string& file);

// An adapter of all experts of a layer at once, whose matrices the model has in one parameter [X, out, in]
// (target_parameters). Of expert e W'_e = W_e + scaling B_e A_e.
struct PeftStack {
  std::string name;               // of the parameter: "model.layers.0.mlp.experts.gate_up_proj"
  const TensorView* a = nullptr;  // [X r, in]: the rows of the first expert, then of the next
  const TensorView* b = nullptr;  // [out, r X]: of the first rank a column for each expert, then of the next
  int64_t rank = 0;
  double scaling = 1;
};

// A weight that the adapter holds in full (modules_to_save).
struct PeftSaved {
  std::string name;  // the base model's: "lm_head.weight"
  const TensorView* tensor = nullptr;
};

// Rows of a matrix that were trained alone, in the order of PeftConfig::trainable_tokens.
struct PeftRows {
  std::string name;  // of the module: "model.embed_tokens"
  std::vector<int64_t> ids;
  const TensorView* tensor = nullptr;  // [ids, hidden]
};

struct PeftAdapter {
  PeftConfig config;
  std::shared_ptr<const WeightFile> file;  // what the views point into
  std::vector<PeftModule> modules;         // sorted by name
  std::vector<PeftSaved> saved;            // sorted by name
  std::vector<PeftRows> rows = {};         // sorted by name
  std::vector<PeftSaved> bases = {};       // the base's own matrices of adapted modules, which PEFT keeps
                                           // of an embedding and a head; by the module's name
  std::vector<PeftStack> stacks = {};      // sorted by name
};

// Checks that A, B and magnitude of every module are there, dense and of agreeing shapes. Names may lack the
// prefix "base_model.model.", as other tools write them. adapter_model.bin (pickle) is refused.
PeftAdapter open_peft_folder(const std::filesystem::path& folder);

// "base_model.model." + module + "." + part; parts: "lora_A.weight", "lora_B.weight", "lora_embedding_A",
// "lora_embedding_B", "lora_magnitude_vector", "token_adapter.trainable_tokens_delta" for rows that are
// trained alone, and "weight" for a module saved in full.
std::string peft_name(std::string_view module, std::string_view part);

// `tensors` carry peft_name()s; `metadata` is added to that of adapter_model.safetensors. The config is
// written last: a folder without one is no adapter.
void write_peft_folder(const std::filesystem::path& folder, const PeftConfig& config,
                       const std::vector<TensorSource>& tensors,
                       std::map<std::string, std::string> metadata = {});

}  // namespace retort
