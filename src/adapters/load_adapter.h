// An adapter from a file, put on its base. The base is matched by hash where the adapter names one, and by
// the names and shapes of its layers always.
#pragma once
#include <filesystem>

#include "models/model.h"

namespace retort {

// Key in the metadata of adapter_model.safetensors: sha256 of the weight file(s) that the adapter was trained
// on.
inline constexpr const char* kBaseHashKey = "retort.base_sha256";

// A PEFT folder. Afterwards the model's trainables are the adapter's. RecipeError when the model carries an
// adapter already; FormatError when the adapter was trained on another base, or a layer or a shape does not
// fit.
void load_peft_adapter(LoadedModel& loaded, const std::filesystem::path& folder);

// A GGUF LoRA file (llama.cpp's --lora).
void load_gguf_adapter(LoadedModel& loaded, const std::filesystem::path& file);

// Either, by what the path holds.
void load_adapter(LoadedModel& loaded, const std::filesystem::path& path);

}  // namespace retort
