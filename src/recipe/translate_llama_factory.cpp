// LLaMA-Factory's YAML or JSON (src/llamafactory/hparams), with the data sets that its dataset_info.json
// describes.
#include <algorithm>
#include <filesystem>

#include "base/error.h"
#include "base/json.h"
#include "recipe/translate_draft.h"
#include "spec/spec_visitor.h"

namespace retort {

namespace {

namespace fs = std::filesystem;

const Json& member(const Json& object, const std::string& key) {
  static const Json absent;
  const auto found = object.is_object() ? object.find(key) : object.end();
  return found == object.end() ? absent : *found;
}

std::string member_text(const Json& object, const char* key, const std::string& usual = "") {
  const auto& value = member(object, key);
  return value.is_string() ? value.get<std::string>() : usual;
}

// The built-in template of the same format; the model's own where there is none of that name.
std::string our_template(const std::string& name) {
  constexpr const char* kNames[][2] = {
      {"alpaca", "alpaca"}, {"chatml", "chatml"},        {"llama2", "llama2"}, {"llama3", "llama3"},
      {"gemma", "gemma"},   {"gemma2", "gemma"},         {"gemma3", "gemma3"}, {"smollm2", "smollm2"},
      {"qwen", "qwen2.5"},  {"deepseek3", "deepseek-v3"}};
  for (const auto& [theirs, ours] : kNames)
    if (name == theirs) return ours;
  return "auto";
}

class DataSets {
 public:
  explicit DataSets(Draft& draft) : draft_(draft), pretraining_(draft.text("stage") == "pt") {
    folder_ = draft.text("dataset_dir");
    of_folder_ = folder_.empty() ? "" : " of dataset_dir";
    if (folder_.empty()) folder_ = "data";
    for (const auto& folder : {fs::path(folder_), fs::path(draft.file).parent_path() / folder_}) {
      std::error_code none;
      if (!fs::exists(folder / "dataset_info.json", none)) continue;
      folder_ = folder.string();
      known_ = read_json(folder / "dataset_info.json");
      return;
    }
  }

  // As sources from number `first` on; the number after the last.
  size_t translate(const std::string& key, const std::vector<std::string>& names, size_t first,
                   const std::string& use) {
    for (const auto& name : names) {
      const auto at = fmt::format("data.sources.{}.", first++);
      const auto& entry = member(known_, name);
      set_path(key, name, entry, at);
      if (!use.empty()) draft_.out.set(at + "use", use, key);
      if (entry.is_object()) describe_records(name, entry, at);
      else if (pretraining_) draft_.out.set(at + "kind", "text", "stage: pt");
      if (const auto most = draft_.whole("max_samples"); most && *most > 0)
        draft_.out.set(at + "limit", fmt::format("{}", *most), "max_samples");
      if (const auto system = draft_.text("default_system"); !system.empty())
        draft_.out.set(at + "system", yaml_text(as_pattern(system)), "default_system");
    }
    return first;
  }
  bool pretraining() const { return pretraining_; }

 private:
  void set_path(const std::string& key, const std::string& name, const Json& entry, const std::string& at) {
    const auto remark = fmt::format("{}: {}{}", key, printable(name), of_folder_);
    if (!draft_.options.data.empty())
      return draft_.set_path(at + "path", draft_.options.data, "from the command line; " + remark);
    if (const auto file = member_text(entry, "file_name"); !file.empty())
      return draft_.set_path(at + "path", (fs::path(folder_) / file).string(), remark);
    for (const char* hub : {"hf_hub_url", "ms_hub_url", "om_hub_url", "script_url", "cloud_file_name"})
      if (const auto url = member_text(entry, hub); !url.empty())
        return draft_.set_path(at + "path", url, fmt::format("{}, {}", remark, hub));
    draft_.set_path(at + "path", name, remark);
    if (!entry.is_object())
      draft_.look(
          at + "path",
          fmt::format("{}/dataset_info.json says nothing of it here: if its columns or roles have names "
                      "of their own, set fields and roles",
                      printable(folder_)));
  }

  void describe_records(const std::string& name, const Json& entry, const std::string& at) {
    const auto tell = [&](const char* key, const std::string& why) {
      if (const auto& value = member(entry, key); !value.is_null())
        draft_.left_out.push_back(fmt::format("dataset_info.json: {}.{} ({}): {}", printable(name), key,
                                              printable(value.dump()), why));
    };
    if (member(entry, "ranking") == Json(true))
      throw RecipeError(fmt::format(
          "{}: dataset: {} holds preferences (ranking: true); retort trains on answers; nothing was "
          "written",
          printable(draft_.file), printable(name)));
    tell("subset", "data.sources[].path names the files themselves");
    tell("folder", "data.sources[].path names the files themselves");
    tell("num_samples", "data.sources[].limit takes so many records, chosen by hash");
    const auto split = member_text(entry, "split", "train");
    if (fs::is_directory(fs::path(folder_) / member_text(entry, "file_name")) && split != "train")
      draft_.out.set(at + "split", yaml_word(split), "dataset_info.json: split");
    const auto &columns = member(entry, "columns"), &tags = member(entry, "tags");
    const auto formatting = member_text(entry, "formatting", "alpaca");
    fields_.clear();
    if (pretraining_) {
      draft_.out.set(at + "kind", "text", "stage: pt");
      add("text", member_text(columns, "prompt", "text"), {"text"});
    } else if (formatting == "alpaca") {
      draft_.out.set(at + "kind", "alpaca", "dataset_info.json: formatting");
      add("instruction", member_text(columns, "prompt"), {"instruction"});
      add("input", member_text(columns, "query"), {"input"});
      add("output", member_text(columns, "response"), {"output"});
      add("history", member_text(columns, "history"), {"history"});
    } else {
      add("messages", member_text(columns, "messages"), {"messages", "conversations"});
      add("role", member_text(tags, "role_tag"), {"role", "from"});
      add("content", member_text(tags, "content_tag"), {"content", "value"});
      set_roles(tags, at);
    }
    add("system", member_text(columns, "system"), {"system"});
    add("tools", member_text(columns, "tools"), {"tools"});
    std::string list;
    for (const auto& [ours, theirs] : fields_)
      list += fmt::format("{}{}: {}", list.empty() ? "" : ", ", ours, yaml_text(theirs));
    if (!list.empty()) draft_.out.set(at + "fields", "{" + list + "}", "dataset_info.json: columns, tags");
    for (const char* key : {"images", "videos", "audios", "chosen", "rejected", "kto_tag"})
      if (const auto& value = member(columns, key); !value.is_null())
        draft_.left_out.push_back(
            fmt::format("dataset_info.json: {}.columns.{} ({}): answers to texts are "
                        "learned, not images, sounds or preferences",
                        printable(name), key, printable(value.dump())));
  }

  void add(const char* ours, const std::string& theirs, std::initializer_list<const char*> known) {
    if (!theirs.empty() && std::find(known.begin(), known.end(), theirs) == known.end())
      fields_.emplace_back(ours, theirs);
  }

  // Words that every reader of ShareGPT knows are left out.
  void set_roles(const Json& tags, const std::string& at) {
    constexpr const char* kTags[][3] = {{"user_tag", "user", "human"},
                                        {"assistant_tag", "assistant", "gpt"},
                                        {"system_tag", "system", "system"},
                                        {"observation_tag", "tool", "observation"}};
    std::string list;
    for (const auto& [tag, ours, usual] : kTags) {
      const auto theirs = member_text(tags, tag);
      if (!theirs.empty() && theirs != ours && theirs != usual)
        list += fmt::format("{}{}: {}", list.empty() ? "" : ", ", yaml_text(theirs), ours);
    }
    if (!list.empty()) draft_.out.set(at + "roles", "{" + list + "}", "dataset_info.json: tags");
    if (const auto call = member_text(tags, "function_tag"); !call.empty() && call != "function_call")
      draft_.look(at + "roles", fmt::format("calls of tools are named {} there; here function_call is read",
                                            printable(call)));
  }

  Draft& draft_;
  const bool pretraining_;
  std::string folder_, of_folder_;
  Json known_;
  std::vector<std::pair<std::string, std::string>> fields_;
};

// True where a source is held out.
bool translate_sources(Draft& draft, DataSets& data) {
  auto names = draft.names("dataset");
  const auto tests = draft.names("eval_dataset");
  const bool given = !draft.options.data.empty();
  if (given && names.size() > 1)
    draft.refuse(*draft.take("dataset"), "dataset",
                 fmt::format("the command line names one file for {} data sets; translate it without, and "
                             "write their paths",
                             names.size()));
  if (given && names.empty()) names.push_back(draft.options.data);
  if (names.empty())
    throw RecipeError(fmt::format("{}: names no data set; name a file: `retort init DATA --from ...`",
                                  printable(draft.file)));
  const bool held_out = !tests.empty() && !given;
  const auto next = data.translate("dataset", names, 0, held_out ? "train" : "");
  if (held_out) data.translate("eval_dataset", tests, next, "held_out");
  else draft.leave("eval_dataset", "the command line names the data");
  return held_out;
}

void translate_template(Draft& draft) {
  if (const auto name = draft.text("template"); !name.empty()) {
    const auto ours = our_template(name);
    draft.out.set("data.template", ours,
                  fmt::format("template: {}{}", printable(name),
                              ours == "auto" ? "; the model's own, or set another here" : ""));
  }
  if (draft.take("enable_thinking"))
    draft.out.set("data.template_arguments",
                  fmt::format("{{enable_thinking: {}}}", draft.truth("enable_thinking") ? "true" : "false"),
                  "enable_thinking; for templates that have this switch");
}

int bits(Draft& draft) {
  const auto count = draft.whole("quantization_bit");
  if (!count || *count == 0) return 0;
  const auto type = draft.text("quantization_type");
  if (!type.empty() && type != "nf4") {
    draft.look("model.weights", fmt::format("{} there, nf4 here", printable(type)));
    draft.leave("quantization_type", "model.weights has nf4 and no other type of 4 bits for a base");
  }
  if (*count == 4 || *count == 8) return static_cast<int>(*count);
  draft.look("model.weights", fmt::format("{} bits there; q5_0, q6_k or another type may be set", *count));
  draft.leave("quantization_bit", "model.weights holds a base in 4 or 8 bits, or in a type of GGUF");
  return 0;
}

void translate_adapter(Draft& draft, const std::string& type) {
  if (type == "full") {
    draft.out.set("adapter.kind", "full", "finetuning_type: full");
    for (const char* key :
         {"use_dora", "use_rslora", "lora_target", "additional_target", "adapter_name_or_path"})
      draft.leave(key, "finetuning_type is full");
    return;
  }
  set_low_rank(draft, type.empty() ? "the default of LLaMA-Factory" : "finetuning_type: lora", "use_dora",
               "use_rslora");
  draft.by_default("adapter.rank", "8");
  if (!draft.out.has("adapter.alpha"))
    draft.out.set("adapter.alpha", yaml_number(2 * std::stod(draft.out.value("adapter.rank"))),
                  "the default of LLaMA-Factory: lora_rank * 2");
  const auto targets = draft.names("lora_target");
  const bool all = targets.empty() || targets == std::vector<std::string>{"all"};
  draft.out.set("adapter.targets", all ? "[all]" : yaml_names(targets),
                targets.empty() ? "the default of LLaMA-Factory" : "lora_target");
  if (const auto names = draft.names("additional_target"); !names.empty())
    draft.out.set("adapter.modules_to_save", yaml_names(names), "additional_target");
  if (const auto folders = draft.names("adapter_name_or_path"); !folders.empty()) {
    set_adapter_from(draft, folders.back(), "adapter_name_or_path");
    if (folders.size() > 1)
      draft.look("adapter.from", "there all but the last are merged first; adapter.merge lists such");
  }
}

}  // namespace

void translate_llama_factory(Draft& draft) {
  const auto stage = draft.text("stage");
  if (!stage.empty() && stage != "sft" && stage != "pt")
    draft.refuse(*draft.take("stage"), "stage",
                 fmt::format("expected sft or pt, found '{}': retort trains on answers and texts, not on "
                             "preferences or rewards",
                             printable(stage)));
  const auto type = draft.text("finetuning_type");
  if (!type.empty() && type != "lora" && type != "full")
    draft.refuse(*draft.take("finetuning_type"), "finetuning_type",
                 fmt::format("expected lora or full, found '{}'", printable(type)));
  draft.copy_keys();
  set_base(draft, "model_name_or_path", bits(draft), "quantization_bit, quantization_type");
  for (const auto& [key, ours] : {std::pair<const char*, const char*>("add_tokens", "model.add_words"),
                                  {"add_special_tokens", "model.add_tokens"}})
    if (const auto names = draft.names(key); !names.empty()) draft.out.set(ours, yaml_names(names), key);

  DataSets data(draft);
  const bool held_out = translate_sources(draft, data);
  translate_template(draft);
  set_held_out(draft, draft.number("val_size"), "val_size", held_out);
  const auto row_tokens = draft.whole("cutoff_len").value_or(2048);
  set_row_tokens(draft, row_tokens, draft.take("cutoff_len") ? "cutoff_len" : "the default of LLaMA-Factory");
  if (data.pretraining()) {
    draft.out.set("data.length", "split", "a longer text becomes several samples");
  } else {
    draft.out.set("data.length", "cut", "longer samples are cut there; here answers are never cut");
    if (draft.truth("train_on_prompt")) draft.out.set("data.loss", "all", "train_on_prompt: true");
    else if (draft.truth("mask_history")) draft.out.set("data.loss", "last_answer", "mask_history: true");
  }
  translate_adapter(draft, type);
  const bool plain = draft.truth("packing"), neat = draft.truth("neat_packing");
  const std::string packed = neat                 ? "neat_packing"
                             : plain              ? "packing"
                             : data.pretraining() ? "stage: pt"
                                                  : "";
  translate_training(draft, trainers_own(5e-5, packed), row_tokens);
  set_exports(draft, type != "full", "");
}

}  // namespace retort
