// The files that a trained model becomes. Each function writes atomically, streams (no full copy of the model
// in memory) and throws Failure when the disk does not take it.
#pragma once
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "adapters/adapter_spec.h"
#include "models/model.h"
#include "quant/mixture.h"

namespace retort {

// What one writer made, for the report and the manifest.
struct Artefact {
  std::string kind;                    // "gguf", "safetensors", "peft", "gguf-adapter"
  std::string label;                   // "Q4_K_M", "bf16", "LoRA"
  std::filesystem::path path;          // a file or a folder
  uint64_t bytes = 0;                  // on disk
  std::vector<std::string> fallbacks;  // "2 tensors of 576 columns: Q4_K -> Q5_0 (61.0% of the parameters)"
  double delta_error =
      0;  // largest share of an adapter's update that rounding to this type lost; 0 without adapters
  std::vector<std::string> ignored =
      {};  // what the file says and the program that it is for does not compute
  // Matrices of which rounding leaves less than half of the update, with the share that is left.
  std::vector<std::string> vanished = {};
  // Nats a token that a file of fp32 may be from the trained model; nullopt where the type rounds.
  std::optional<double> exact_within = {};

  template <class Visitor> void fields(Visitor& field) {  // the path is known to whoever asked for it
    field("kind", kind);
    field("label", label);
    field("bytes", bytes);
    field("fallbacks", fallbacks);
    field("delta_error", delta_error);
    field.rare("ignored", ignored);
    field.rare("vanished", vanished);
    field.rare("exact_within", exact_within);
  }
};

// Weights::left_out writes everything but the weights' bytes, holes in their place: what a rehearsal reads
// back.
enum class Weights { written, left_out };

// How the weights of a whole model are written. A number of threads alone is one.
struct Writing {
  Writing(int64_t used_threads, Weights which = Weights::written) : threads(used_threads), weights(which) {}
  int64_t threads;
  Weights weights;
};

// Sums in another order are no other model. Of experts the last chosen one may change by them, where two are
// as good as each other: seldom, but visibly.
inline double exact_within(const ModelConfig& config) { return config.experts > 0 ? 1e-3 : 1e-5; }

// GGUF v3 with the tokenizer, the chat template, special tokens and general.* keys; types by llama.cpp's
// mixture rules. fallback = false: FormatError naming the first tensor whose rows no block of its type fits.
Artefact write_gguf_model(const std::filesystem::path& file, LoadedModel& loaded, const Mixture& mixture,
                          bool fallback, const Writing& how);

// config.json, generation_config.json, tokenizer files and safetensors shards of `type` (f32, f16, bf16).
Artefact write_hf_folder(const std::filesystem::path& folder, LoadedModel& loaded, WeightType type,
                         uint64_t shard_bytes, const Writing& how);

// The base's folder again: shards of the same names with the same bytes, but for the tensors whose numbers
// the training changed; those are rounded to the type that they have there, and F8_E4M3 gets new scales by
// the rule of the base (largest magnitude of a block / 448; powers of two where the base's are). RecipeError
// where the base is no such folder, or the trained model has tensors that it lacks.
Artefact write_kept_folder(const std::filesystem::path& folder, LoadedModel& loaded, const Writing& writing);

// What a folder of a merged model has besides weights and config.json: tokenizer, templates, generation
// settings.
void write_folder_settings(const std::filesystem::path& folder, LoadedModel& loaded);

// PEFT's adapter_config.json and adapter_model.safetensors (fp32).
Artefact write_peft_adapter(const std::filesystem::path& folder, LoadedModel& loaded,
                            const AdapterSpec& spec);

// The adapter for llama.cpp's --lora. RecipeError for DoRA and modules_to_save, which GGUF adapters cannot
// say.
Artefact write_gguf_adapter(const std::filesystem::path& file, LoadedModel& loaded, const AdapterSpec& spec);

// An Ollama Modelfile beside a .gguf: FROM, the template's stop words, generation defaults, and the system
// message that the model was trained with, where there is one.
void write_modelfile(const std::filesystem::path& file, const std::filesystem::path& gguf,
                     const LoadedModel& loaded, const std::string& system = "");

}  // namespace retort
