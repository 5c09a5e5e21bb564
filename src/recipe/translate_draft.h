// What translators of other tools' recipes share: their file, of which it is known what was read, and ours.
#pragma once
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "recipe/recipe_writer.h"
#include "recipe/translate.h"
#include "spec/yaml.h"

namespace retort {

// Text of a value for a person: 'true', "a list of 3".
std::string shown(const YamlNode& value);
// Says nothing: null, false, no, none, "", 0, -1, [] or {}.
bool is_off(const YamlNode& value);
bool is_true(const YamlNode* value);
std::optional<double> number_of(const YamlNode& value);
// A list of texts, or one text that is cut at commas.
std::vector<std::string> names_of(const YamlNode& value);
// The value as our YAML: "3.0" is 3, True is true.
std::string yaml_of(const YamlNode& value);
std::string yaml_names(const std::vector<std::string>& names);  // ["a", "b"]
std::string yaml_number(double value);
// `yaml` written as a word where it is one, in quotes where not.
std::string yaml_word(const std::string& word);

// A text that holds no {column}: its braces are doubled.
std::string as_pattern(const std::string& text);

class Draft {
 public:
  Draft(const YamlNode& root, Tool kind, const std::string& name, const TranslateOptions& wanted)
      : tool(kind), file(name), options(wanted), root_(root) {}

  const Tool tool;
  const std::string& file;
  const TranslateOptions& options;
  RecipeWriter out;
  std::vector<std::string> look_here, left_out;

  // The value of a key, which counts as read from now on; nullptr where it is absent or null.
  const YamlNode* take(const std::string& key);
  std::string text(const std::string& key);  // "" where absent; RecipeError for a list or a map
  std::optional<double> number(const std::string& key);
  std::optional<int64_t> whole(const std::string& key);
  // false where absent, true for 1 too; RecipeError for what is neither.
  bool truth(const std::string& key);
  std::vector<std::string> names(const std::string& key);
  // A value that was read has no counterpart: of `key`, because `why`; of a row of the table by its note.
  void leave(const std::string& key, const YamlNode& value, const std::string& why);
  void leave(const std::string& key, const std::string& why);
  // Whoever reads the recipe has to see to this key.
  void look(const std::string& path, const std::string& what);
  // `yaml` was not said there and is what the tool takes then.
  void by_default(const std::string& path, const std::string& yaml);
  // Takes all keys of the table whose values are ours as they stand.
  void copy_keys();
  // What was not read by then, with its reason.
  void leave_the_rest();
  // A path on this machine, else a word about it for `ours`.
  void set_path(const std::string& ours, const std::string& path, const std::string& remark);

  [[noreturn]] void refuse(const YamlNode& at, const std::string& key, const std::string& problem) const;

 private:
  const YamlNode& root_;
  std::set<std::string> read_;
};

// Keys that the trainer of transformers gives to all three tools, by what differs between them.
struct TrainerTerms {
  const char* batch;  // the key of a device's batch
  const char* epochs;
  const char* optimizer;
  const char* schedule;
  double usual_batch, usual_epochs;
  const char* usual_schedule;
  double usual_rate;    // 0: must be said
  double usual_warmup;  // share of the steps
  std::string packed;   // the key that asks for rows filled to their length; empty: none
};
// With the trainer's own names and defaults, as LLaMA-Factory and TRL leave them.
TrainerTerms trainers_own(double usual_rate, std::string packed);
void translate_training(Draft& draft, const TrainerTerms& terms, int64_t row_tokens);
// data.sample_tokens and what follows from it: a micro-batch holds the longest sample.
void set_row_tokens(Draft& draft, int64_t row_tokens, const std::string& remark);
// `said` below 1 is a share, else a number. Without one everything is learned, unless a source is held out.
void set_held_out(Draft& draft, std::optional<double> said, const std::string& key, bool source_held_out);
// model.weights of so many bits (0: as they are) and the base's path.
void set_base(Draft& draft, const std::string& key, int bits, const std::string& bits_key);
// adapter.kind beside the switches for DoRA and rsLoRA.
void set_low_rank(Draft& draft, const std::string& remark, const std::string& dora,
                  const std::string& rslora);
// The training starts from an adapter: what is said of its size is then taken from there.
void set_adapter_from(Draft& draft, const std::string& folder, const std::string& key);
// `merged`: the key that asks for a merged model; empty: none.
void set_exports(Draft& draft, bool low_rank, const std::string& merged);

void translate_axolotl(Draft& draft);
void translate_llama_factory(Draft& draft);
void translate_trl(Draft& draft);

}  // namespace retort
