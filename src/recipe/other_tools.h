// Keys of Axolotl, LLaMA-Factory and TRL, and what each is here. One table serves the translation of their
// recipes (translate.h), what stands behind "unknown key", `retort explain` and docs/from-other-tools.md.
#pragma once
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace retort {

enum class Tool : uint8_t { axolotl = 1, llama_factory = 2, trl = 4 };
inline constexpr Tool kTools[] = {Tool::axolotl, Tool::llama_factory, Tool::trl};

const char* name_of(Tool tool);  // "LLaMA-Factory"
const char* word_of(Tool tool);  // "llama-factory", as the command line says it
std::optional<Tool> tool_named(std::string_view word);

struct OtherKey {
  unsigned tools;    // bits of Tool
  const char* keys;  // between spaces. "wandb_*" is every key that begins so, "datasets.type" stands inside
  const char* ours;  // paths of ours, between spaces; empty: there is none
  const char* note;  // what becomes of the value, or why there is no counterpart
  bool copied = false;  // the value is ours as it stands

  bool of(Tool tool) const { return (tools & static_cast<unsigned>(tool)) != 0; }
};

std::span<const OtherKey> other_keys();
std::vector<std::string> words_of(std::string_view text);  // between spaces

// The row of a key of that tool, one that names it before one with a pattern; nullptr where it is unknown.
const OtherKey* find_other_key(Tool tool, std::string_view key);

// Whose these outermost keys of a file are: of whom most are that no other of them has.
struct WhoseKeys {
  std::optional<Tool> tool;  // nullopt where none is known, or those of several are as many
  int known = 0;             // keys that any of them has
  int own = 0;               // of these, keys that one alone has, of the one with the most
};
WhoseKeys whose_keys(const std::vector<std::string>& keys);

// What a key that stands in a recipe's section ("", "train", "data.sources[0]") is of another tool:
// "max_steps of Axolotl, LLaMA-Factory and TRL is train.steps here". Empty where no tool has such a key, or,
// if `with_ours`, where none of ours does its work.
std::string counterpart(std::string_view section, std::string_view key, bool with_ours);

// The lines of `retort explain KEY` for all tools that have it, and our keys that they name.
struct OtherKeyLook {
  std::string text;
  std::vector<std::string> ours;
};
OtherKeyLook explain_other_key(std::string_view key);

std::string other_keys_table(Tool tool);  // markdown
std::string other_tools_page();           // docs/from-other-tools.md

}  // namespace retort
