// The YAML of `trl sft --config` (ScriptArguments, SFTConfig and ModelConfig in one), or the JSON that an
// SFTConfig or TrainingArguments writes of itself.
#include <algorithm>
#include <filesystem>
#include <fstream>

#include "base/error.h"
#include "base/json.h"
#include "recipe/translate_draft.h"
#include "spec/spec_visitor.h"

namespace retort {

namespace {

namespace fs = std::filesystem;

// A folder whose files are of several splits.
bool has_split(const std::string& path, const std::string& split) {
  std::error_code none;
  if (!fs::is_directory(path, none)) return false;
  if (fs::exists(fs::path(path) / "dataset_dict.json", none)) return true;
  for (const auto& entry : fs::directory_iterator(path, none))
    if (entry.path().filename().string().find(split) != std::string::npos) return true;
  return false;
}

struct DataPlace {
  std::string path, split, remark, split_said;
};

void set_source(Draft& draft, size_t number, const DataPlace& place, const std::string& use) {
  const auto at = fmt::format("data.sources.{}.", number);
  draft.set_path(at + "path", place.path, place.remark);
  std::error_code none;
  const bool here = fs::exists(place.path, none);
  if (!place.split.empty() && (has_split(place.path, place.split) || (!here && place.split != "train")))
    draft.out.set(at + "split", yaml_word(place.split), place.split_said);
  else if (here && !place.split.empty() && place.split != "train")
    draft.leave(place.split_said, "a file has no splits");
  if (!use.empty()) draft.out.set(at + "use", use, use == "held_out" ? "dataset_test_split" : "");
  const auto field = draft.text("dataset_text_field");
  if (!field.empty() && field != "text")
    draft.out.set(at + "fields", "{text: " + yaml_text(field) + "}", "dataset_text_field");
}

// Entries of `datasets`; what they say besides is left out with its reason.
std::vector<DataPlace> mixture(Draft& draft, const YamlNode& list) {
  std::vector<DataPlace> places;
  for (size_t i = 0; i < list.items.size(); ++i) {
    const auto& entry = list.items[i];
    const auto where = fmt::format("datasets[{}].", i);
    const auto said = [&](const char* key) -> std::string {
      const auto* value = entry.find(key);
      return value && value->kind == YamlNode::Kind::scalar ? value->text : "";
    };
    const auto path = said("path");
    if (path.empty()) draft.refuse(entry, where + "path", "missing");
    const auto split = said("split").empty() ? "train" : said("split");
    const auto* files = entry.find("data_files");
    const auto named = files ? names_of(*files) : std::vector<std::string>();
    for (const auto& file : named) {
      const bool inside = fs::is_directory(path);
      places.push_back({inside ? (fs::path(path) / file).string() : file, "", where + "data_files", ""});
    }
    if (named.empty()) places.push_back({path, split, where + "path", where + "split"});
    for (const auto& [key, value] : entry.entries) {
      if (key.text == "path" || key.text == "split" || (key.text == "data_files" && !named.empty())) continue;
      const auto* row = find_other_key(Tool::trl, "datasets." + key.text);
      if (!is_off(value))
        draft.leave(where + key.text, value, row ? row->note : "no key of a data set that is known here");
    }
  }
  return places;
}

struct Sources {
  std::string first;  // path of the first
  bool held_out = false;
};

Sources translate_sources(Draft& draft) {
  const auto name = draft.text("dataset_name");
  const auto train = draft.text("dataset_train_split"), test = draft.text("dataset_test_split");
  const auto strategy =
      draft.text("eval_strategy").empty() ? draft.text("evaluation_strategy") : draft.text("eval_strategy");
  const bool evaluates = !strategy.empty() && strategy != "no" && strategy != "false";
  const auto* list = draft.take("datasets");
  if (!draft.options.data.empty()) {
    const auto instead = name.empty() ? "" : fmt::format("; dataset_name there: {}", printable(name));
    set_source(draft, 0,
               {draft.options.data, train, "from the command line" + instead, "dataset_train_split"}, "");
    for (const char* key : {"datasets", "dataset_test_split"})
      draft.leave(key, "the command line names the data");
    return {draft.options.data, false};
  }
  if (list && list->kind == YamlNode::Kind::list && !list->items.empty()) {
    const auto places = mixture(draft, *list);
    for (size_t i = 0; i < places.size(); ++i) set_source(draft, i, places[i], "");
    for (const char* key : {"dataset_name", "dataset_train_split", "dataset_test_split"})
      draft.leave(key, "datasets goes before it");
    return {places[0].path, false};
  }
  draft.leave("datasets", "expected a list of data sets");
  if (name.empty())
    throw RecipeError(fmt::format("{}: names no data set; name a file: `retort init DATA --from ...`",
                                  printable(draft.file)));
  const auto split = test.empty() ? "test" : test;
  std::error_code none;
  const bool held_out = evaluates && (has_split(name, split) || !fs::exists(name, none));
  set_source(draft, 0, {name, train.empty() ? "train" : train, "dataset_name", "dataset_train_split"},
             held_out ? "train" : "");
  if (held_out) set_source(draft, 1, {name, split, "dataset_name", "dataset_test_split"}, "held_out");
  else
    draft.leave("dataset_test_split",
                evaluates ? "the data have no such split here" : "nothing is evaluated");
  return {name, held_out};
}

// Whether the records are prompts and completions; nullopt where no file says it.
std::optional<bool> has_completions(const std::string& path) {
  std::error_code none;
  if (!fs::is_regular_file(path, none) || fs::path(path).extension() != ".jsonl") return std::nullopt;
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  const auto record = Json::parse(line, nullptr, false);
  if (!record.is_object()) return std::nullopt;
  return record.contains("prompt") && record.contains("completion");
}

void translate_loss(Draft& draft, const std::string& path) {
  const bool answers = draft.truth("assistant_only_loss"), completions = draft.truth("completion_only_loss");
  const auto* said = draft.take("completion_only_loss");
  if (answers && said) draft.leave("completion_only_loss", *said, "assistant_only_loss goes before it");
  if (answers) return draft.out.set("data.loss", "completion", "assistant_only_loss: true");
  if (completions) return draft.out.set("data.loss", "completion", "completion_only_loss: true");
  if (said) return draft.out.set("data.loss", "all", "completion_only_loss: false");
  const auto known = has_completions(path);
  const bool all = !known.value_or(false);
  draft.out.set("data.loss", all ? "all" : "completion",
                all ? "TRL learns every token of conversations and texts unless it is told otherwise"
                    : "TRL's default for records of prompt and completion");
  if (all)
    draft.look(
        "data.loss",
        known ? "completion learns the answers alone"
              : "completion learns the answers alone, as TRL does where records are prompt and completion");
}

void translate_adapter(Draft& draft, bool model_said) {
  const auto* use = draft.take("use_peft");
  if (!draft.truth("use_peft")) {
    if (!use && !model_said) {
      draft.look("adapter.kind",
                 "the file says nothing of it: PEFT's configuration stands in the program, if "
                 "there is one; full trains every weight");
      return draft.out.set("adapter.kind", "lora");
    }
    draft.out.set("adapter.kind", "full", use ? "use_peft: false" : "no use_peft: every weight is trained");
    for (const char* key : {"use_dora", "use_rslora", "lora_target_modules"})
      draft.leave(key, "without use_peft it says nothing");
    return;
  }
  set_low_rank(draft, "use_peft: true", "use_dora", "use_rslora");
  draft.by_default("adapter.rank", "16");
  draft.by_default("adapter.alpha", "32");
  draft.by_default("adapter.dropout", "0.05");
  const auto targets = draft.names("lora_target_modules");
  if (targets == std::vector<std::string>{"all-linear"})
    draft.out.set("adapter.targets", "[all]", "lora_target_modules: all-linear");
  else if (!targets.empty()) draft.out.set("adapter.targets", yaml_names(targets), "lora_target_modules");
  else
    draft.out.set("adapter.targets", "[q_proj, v_proj]",
                  "what PEFT takes for Llama and most others; [all] is every linear layer");
}

int bits(Draft& draft) {
  const bool four = draft.truth("load_in_4bit"), eight = draft.truth("load_in_8bit");
  const auto type = draft.text("bnb_4bit_quant_type");
  if (four && !type.empty() && type != "nf4") {
    draft.look("model.weights", fmt::format("{} there, nf4 here", printable(type)));
    draft.leave("bnb_4bit_quant_type", "model.weights has nf4 and no other type of 4 bits for a base");
  }
  if (!four) draft.leave("bnb_4bit_quant_type", "without load_in_4bit it says nothing");
  return four ? 4 : eight ? 8 : 0;
}

void translate_length(Draft& draft) {
  const auto mode = draft.text("truncation_mode");
  draft.out.set("data.length", "cut", "longer samples are cut there; here answers are never cut");
  if (mode == "keep_start" || mode == "keep_end")
    draft.out.set("data.keep", mode == "keep_end" ? "end" : "start", "truncation_mode: " + mode);
  else draft.leave("truncation_mode", "data.keep is start, end, ends or middle");
}

}  // namespace

void translate_trl(Draft& draft) {
  const bool model_said = draft.take("model_name_or_path") != nullptr;
  draft.copy_keys();
  set_base(draft, "model_name_or_path", bits(draft), "load_in_4bit, load_in_8bit, bnb_4bit_quant_type");
  const auto sources = translate_sources(draft);
  translate_loss(draft, sources.first);
  if (const auto path = draft.text("chat_template_path"); !path.empty())
    draft.set_path("data.template", path, "chat_template_path");
  set_held_out(draft, draft.number("test_split_size"), "test_split_size", sources.held_out);
  const auto older = draft.whole("max_seq_length"), said = draft.whole("max_length");
  if (said && older) draft.leave("max_seq_length", "max_length goes before it");
  const auto row_tokens = said ? *said : older.value_or(1024);
  set_row_tokens(draft, row_tokens, said ? "max_length" : older ? "max_seq_length" : "the default of TRL");
  translate_length(draft);
  translate_adapter(draft, model_said);
  const std::string packed = draft.truth("packing") ? "packing" : "";
  translate_training(draft, trainers_own(2e-5, packed), row_tokens);
  set_exports(draft, draft.out.value("adapter.kind") != "full", "");
}

}  // namespace retort
