// What a run writes for deployment.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "spec/fields.h"

namespace retort {

struct ExportSpec {
  bool adapter = true;                         // PEFT folder
  bool gguf_adapter = false;                   // GGUF LoRA
  std::string merged = "bf16";                 // safetensors folder: none, f32, f16, bf16, keep
  std::vector<std::string> gguf = {"Q4_K_M"};  // one file each
  bool fallback = true;
  int64_t shard_mb = 4096;
  int64_t compare_samples = 0;

  template <class Visitor> void fields(Visitor& field) {
    field("adapter", adapter, any(),
          "write the adapter as a PEFT folder (adapter_config.json, adapter_model.safetensors)");
    field("gguf_adapter", gguf_adapter, any(),
          "write the adapter as a GGUF LoRA file for llama.cpp's --lora");
    field(
        "merged", merged, one_of({"none", "f32", "f16", "bf16", "keep"}),
        "write the merged model as a safetensors folder of this type; keep = the base's own files, in which "
        "only what was trained is written anew, in the type that it has there (F8_E4M3 with new scales); "
        "none = do not");
    field("gguf", gguf,
          one_of({"F32", "F16", "BF16", "Q8_0", "Q6_K", "Q5_K_M", "Q5_K_S", "Q4_K_M", "Q4_K_S", "Q3_K_L",
                  "Q3_K_M", "Q3_K_S", "Q2_K", "Q5_1", "Q5_0", "Q4_1", "Q4_0", "IQ4_NL"}),
          "write the merged model as GGUF, one file for each of llama.cpp's type mixtures named here");
    field("fallback", fallback, any(),
          "let rows that no block of the type fits take llama.cpp's fallback type; false = refuse");
    field("shard_mb", shard_mb, at_least(16), "largest safetensors shard in MiB");
    field("compare_samples", compare_samples, at_least(0),
          "held-out samples over which each artefact is compared with the trained model; 0: as many as have "
          "1,024 supervised tokens together, 8 at least and 64 at most; an adapter, whose numbers are the "
          "trained ones, over 4 of them at most");
  }
};

}  // namespace retort
