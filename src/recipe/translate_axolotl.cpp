// Axolotl's YAML: https://docs.axolotl.ai/docs/config-reference.html
#include <algorithm>
#include <filesystem>

#include "base/error.h"
#include "recipe/translate_draft.h"
#include "spec/spec_visitor.h"

namespace retort {

namespace {

namespace fs = std::filesystem;

// The built-in template of the same format; "" where there is none of that name.
std::string our_template(const std::string& name) {
  constexpr const char* kNames[][2] = {{"tokenizer_default", "auto"},
                                       {"alpaca", "alpaca"},
                                       {"chatml", "chatml"},
                                       {"llama3", "llama3"},
                                       {"gemma", "gemma"},
                                       {"gemma3", "gemma3"},
                                       {"mistral_v1", "mistral-v1"},
                                       {"mistral_v2v3", "mistral-v3"},
                                       {"mistral_v3_tekken", "mistral-v3-tekken"},
                                       {"phi_3", "phi3"},
                                       {"phi_35", "phi3"},
                                       {"qwen_25", "qwen2.5"},
                                       {"deepseek_v3", "deepseek-v3"}};
  for (const auto& [theirs, ours] : kNames)
    if (name == theirs) return ours;
  return "";
}

void set_template(Draft& draft, const std::string& name, const std::string& key) {
  const auto ours = our_template(name);
  if (!ours.empty()) return draft.out.set("data.template", ours, fmt::format("{}: {}", key, printable(name)));
  draft.out.set("data.template", "auto", fmt::format("{}: {}", key, printable(name)));
  draft.look("data.template",
             fmt::format("auto is the model's own template; for another name a file with its text in Jinja "
                         "({} there)",
                         printable(name)));
}

// One entry of `datasets`: its keys are read like those of the file.
class Source {
 public:
  Source(Draft& draft, const YamlNode& entry, const std::string& list, size_t theirs)
      : draft_(draft), entry_(entry), where_(fmt::format("{}[{}].", list, theirs)) {}

  // As sources from number `ours` on; the number after the last.
  size_t translate(size_t ours, const std::string& use) {
    const auto files = paths();
    const auto split = text("split");
    for (const auto& path : files) {
      at_ = fmt::format("data.sources.{}.", ours++);
      draft_.set_path(at_ + "path", path, remark_);
      if (!use.empty()) draft_.out.set(at_ + "use", use, where_.starts_with("test") ? "test_datasets" : "");
      translate_split(split, path);
      translate_format(path);
      translate_type();
    }
    leave_the_rest();
    return ours;
  }

 private:
  const YamlNode* take(const std::string& key) {
    read_.push_back(key);
    const auto* value = entry_.find(key);
    return value && value->kind != YamlNode::Kind::null ? value : nullptr;
  }
  std::string text(const std::string& key) {
    const auto* value = take(key);
    if (value && value->kind != YamlNode::Kind::scalar)
      draft_.refuse(*value, where_ + key, fmt::format("expected a text, found {}", shown(*value)));
    return value ? value->text : "";
  }

  std::vector<std::string> paths() {
    if (entry_.kind != YamlNode::Kind::map)
      draft_.refuse(entry_, where_.substr(0, where_.size() - 1), "expected keys and values, path among them");
    const auto path = text("path");
    const auto* files = take("data_files");
    if (!draft_.options.data.empty()) {
      remark_ = fmt::format("from the command line; {} there", printable(path));
      return {draft_.options.data};
    }
    if (path.empty()) draft_.refuse(entry_, where_ + "path", "missing");
    // A path that is the name of a reader: the files are said beside it.
    if (!files) return {path};
    remark_ = where_ + "data_files";
    auto named = names_of(*files);
    if (fs::is_directory(path))
      for (auto& name : named) name = (fs::path(path) / name).string();
    return named.empty() ? std::vector<std::string>{path} : named;
  }

  void translate_split(const std::string& split, const std::string& path) {
    if (split.empty()) return;
    const auto* value = entry_.find("split");
    if (split.find('[') != std::string::npos)
      return draft_.leave(where_ + "split", *value, "data.sources[].limit takes some records, by hash");
    if (fs::is_directory(path)) return draft_.out.set(at_ + "split", yaml_word(split), where_ + "split");
    if (split != "train") draft_.leave(where_ + "split", *value, "a file has no splits");
  }

  void translate_format(const std::string& path) {
    const auto type = text("ds_type");
    if (type.empty() || fs::is_directory(path) || fs::path(path).has_extension()) return;
    draft_.out.set(at_ + "format", type == "text" ? "lines" : yaml_word(type), where_ + "ds_type");
  }

  void translate_type() {
    const auto* type = take("type");
    if (!type)
      draft_.refuse(entry_, where_ + "type",
                    "missing: a data set of tokens; name the texts they were made of");
    if (type->kind == YamlNode::Kind::map) return own_format(*type);
    const auto end = type->text.find_first_of(".:");
    const auto kind = type->text.substr(0, end);
    const auto style = end == std::string::npos ? "" : type->text.substr(end + 1);
    if (kind == "chat_template" || kind == "sharegpt") return conversations();
    if (kind == "completion" || kind == "pretrain") return texts();
    if (kind == "alpaca") {
      draft_.out.set(at_ + "kind", "alpaca", where_ + "type");
      set_alpaca_template(style);
      return;
    }
    draft_.look(at_ + "path", fmt::format("type {} there; without a kind the records' keys say what they "
                                          "are, and prompt and completion name columns",
                                          shown(*type)));
    draft_.leave(where_ + "type", *type, "data.sources[].kind, or prompt and completion with {column}s");
  }

  // Axolotl renders this type by its own text, whatever the model's template is.
  void set_alpaca_template(const std::string& style) {
    if (style == "chatml" || style == "llama3") return set_template(draft_, style, where_ + "type");
    if (!draft_.out.has("data.template"))
      draft_.out.set("data.template", "alpaca", "type: alpaca is rendered so");
  }

  void texts() {
    draft_.out.set(at_ + "kind", "text", where_ + "type");
    const auto field = text("field");
    if (!field.empty() && field != "text")
      draft_.out.set(at_ + "fields", "{text: " + yaml_word(field) + "}", where_ + "field");
  }

  void conversations() {
    std::vector<std::pair<std::string, std::string>> fields;
    const auto add = [&](const char* ours, const std::string& theirs,
                         std::initializer_list<const char*> known) {
      if (theirs.empty() || std::find(known.begin(), known.end(), theirs) != known.end()) return;
      fields.emplace_back(ours, theirs);
    };
    add("messages", text("field_messages"), {"messages", "conversations"});
    auto role = text("message_field_role"), content = text("message_field_content");
    if (const auto* names = take("message_property_mappings")) {
      for (const auto& [ours, theirs] : names->entries) {
        if (ours.text == "role") role = theirs.text;
        else if (ours.text == "content") content = theirs.text;
        else if (ours.text != theirs.text)
          draft_.leave(where_ + "message_property_mappings." + ours.text, theirs,
                       "data.sources[].fields knows role, content, weight, reasoning_content, tool_calls, "
                       "tool_call_id and name of a message");
      }
    }
    add("role", role, {"role", "from"});
    add("content", content, {"content", "value"});
    add("weight", text("message_field_training"), {"weight", "train", "training", "loss"});
    add("reasoning_content", text("field_thinking"),
        {"reasoning_content", "reasoning", "thinking", "thought"});
    add("tools", text("field_tools"), {"tools"});
    std::string list;
    for (const auto& [ours, theirs] : fields)
      list += fmt::format("{}{}: {}", list.empty() ? "" : ", ", ours, yaml_text(theirs));
    if (!list.empty()) draft_.out.set(at_ + "fields", "{" + list + "}", "their names for what is read");
    if (const auto* words = take("roles")) set_roles(*words);
    if (const auto* wanted = take("roles_to_train")) set_roles_to_train(*wanted);
    for (const char* key : {"chat_template", "conversation"})
      if (const auto name = text(key); !name.empty()) set_template(draft_, name, where_ + key);
  }

  // {assistant: [gpt, model]} there is {gpt: assistant, model: assistant} here.
  void set_roles(const YamlNode& words) {
    std::string list;
    for (const auto& [ours, theirs] : words.entries)
      for (const auto& word : names_of(theirs))
        if (word != ours.text)
          list += fmt::format("{}{}: {}", list.empty() ? "" : ", ", yaml_text(word), yaml_word(ours.text));
    if (!list.empty()) draft_.out.set(at_ + "roles", "{" + list + "}", where_ + "roles");
  }

  void set_roles_to_train(const YamlNode& wanted) {
    auto roles = names_of(wanted);
    for (auto& role : roles) {
      if (role == "gpt" || role == "model") role = "assistant";
      if (role == "human") role = "user";
    }
    constexpr std::string_view kOurs[] = {"assistant", "user", "system", "tool", "developer", "function"};
    for (const auto& role : roles)
      if (std::find(std::begin(kOurs), std::end(kOurs), role) == std::end(kOurs))
        return draft_.leave(where_ + "roles_to_train", wanted,
                            "data.train_on.roles are assistant, user, system, tool, developer and function");
    if (roles.empty() || roles == std::vector<std::string>{"assistant"}) return;
    draft_.out.set("data.train_on.roles", yaml_names(roles), where_ + "roles_to_train");
  }

  // "[INST] {instruction} [/INST]" with the columns' own names; other braces are the text's.
  static std::string with_columns(const std::string& format, const std::string& instruction,
                                  const std::string& input) {
    std::string filled;
    for (size_t i = 0; i < format.size(); ++i) {
      const auto rest = std::string_view(format).substr(i);
      const auto put = [&](std::string_view name, const std::string& column) {
        if (!rest.starts_with(name)) return false;
        filled += "{" + column + "}";
        i += name.size() - 1;
        return true;
      };
      if (put("{instruction}", instruction) || put("{input}", input)) continue;
      filled += format[i];
      if (format[i] == '{' || format[i] == '}') filled += format[i];  // one brace is two in a pattern
    }
    return filled;
  }

  void own_format(const YamlNode& type) {
    const auto said = [&](const char* key, const char* usual) -> std::string {
      const auto* value = type.find(key);
      return value && value->kind == YamlNode::Kind::scalar && !value->text.empty() ? value->text : usual;
    };
    const auto format = said("format", type.find("field_input") ? "{instruction} {input}" : "{instruction}");
    draft_.out.set(at_ + "prompt",
                   yaml_text(with_columns(format, said("field_instruction", "instruction"),
                                          said("field_input", "input"))),
                   where_ + "type.format");
    draft_.out.set(at_ + "completion", yaml_text("{" + said("field_output", "output") + "}"),
                   where_ + "type.field_output");
    auto system = as_pattern(said("system_prompt", ""));
    if (const auto field = said("field_system", ""); !field.empty()) system = "{" + field + "}";
    if (!system.empty()) draft_.out.set(at_ + "system", yaml_text(system), where_ + "type");
    draft_.look(at_ + "prompt",
                "there this is the whole text before the answer; data.template writes what stands round it "
                "here, and plain least of all");
    if (!draft_.out.has("data.template"))
      draft_.out.set("data.template", "plain", "type: a format of its own");
    constexpr std::string_view kRead[] = {"format",       "field_instruction", "field_input",
                                          "field_output", "system_prompt",     "field_system"};
    for (const auto& [key, value] : type.entries)
      if (!is_off(value) && std::find(std::begin(kRead), std::end(kRead), key.text) == std::end(kRead))
        draft_.leave(where_ + "type." + key.text, value, "one pattern makes the prompts of a source");
  }

  void leave_the_rest() {
    for (const auto& [key, value] : entry_.entries) {
      if (is_off(value) || std::find(read_.begin(), read_.end(), key.text) != read_.end()) continue;
      const auto* row = find_other_key(Tool::axolotl, "datasets." + key.text);
      draft_.leave(
          where_ + key.text, value,
          row ? (*row->ours == '\0' ? row->note : fmt::format("is for {} of other records", row->ours))
              : "no key of an Axolotl data set that is known here");
    }
  }

  Draft& draft_;
  const YamlNode& entry_;
  const std::string where_;  // "datasets[0]."
  std::string at_, remark_;  // "data.sources.0."
  std::vector<std::string> read_;
};

// True where some are held out.
bool translate_sources(Draft& draft) {
  // Its own text goes before the templates of data sets.
  if (const auto name = draft.text("chat_template"); !name.empty() && name != "jinja")
    set_template(draft, name, "chat_template");
  if (const auto text = draft.text("chat_template_jinja"); !text.empty())
    draft.out.set("data.template", yaml_text(text), "chat_template_jinja");
  const auto *datasets = draft.take("datasets"), *texts = draft.take("pretraining_dataset"),
             *tests = draft.take("test_datasets");
  if (tests && tests->kind != YamlNode::Kind::list)
    draft.refuse(*tests, "test_datasets", fmt::format("expected a list, found {}", shown(*tests)));
  const bool held_out = tests && !is_off(*tests) && draft.options.data.empty();
  if (tests && !held_out) draft.leave("test_datasets", "the command line names the data");
  if (!datasets || is_off(*datasets)) datasets = texts;
  else if (texts) draft.leave("pretraining_dataset", "datasets names the data");
  if (!datasets || datasets->kind != YamlNode::Kind::list || datasets->items.empty()) {
    if (draft.options.data.empty())
      throw RecipeError(fmt::format("{}: names no data sets; name a file: `retort init DATA --from ...`",
                                    printable(draft.file)));
    draft.set_path("data.sources.0.path", draft.options.data, "from the command line");
    if (datasets) draft.leave("datasets", "the command line names the data");
    return held_out;
  }
  if (!draft.options.data.empty() && datasets->items.size() > 1)
    draft.refuse(*datasets, "datasets",
                 fmt::format("the command line names one file for {} data sets; translate it without, and "
                             "write their paths",
                             datasets->items.size()));
  size_t ours = 0;
  for (size_t i = 0; i < datasets->items.size(); ++i)
    ours = Source(draft, datasets->items[i], "datasets", i).translate(ours, held_out ? "train" : "");
  if (held_out)
    for (size_t i = 0; i < tests->items.size(); ++i)
      ours = Source(draft, tests->items[i], "test_datasets", i).translate(ours, "held_out");
  if (const auto system = draft.text("default_system_message"); !system.empty())
    for (size_t i = 0; i < ours; ++i)
      draft.out.set(fmt::format("data.sources.{}.system", i), yaml_text(as_pattern(system)),
                    "default_system_message");
  return held_out;
}

int bits(Draft& draft, const std::string& adapter) {
  if (adapter.empty()) {
    for (const char* key : {"load_in_4bit", "load_in_8bit"})
      draft.leave(key, "every weight is trained, and held in fp32");
    return 0;
  }
  const bool four = draft.truth("load_in_4bit"), eight = draft.truth("load_in_8bit");
  return four || adapter == "qlora" ? 4 : eight ? 8 : 0;
}

void translate_adapter(Draft& draft, const std::string& adapter) {
  if (adapter.empty()) {
    draft.leave("lora_model_dir", "without an adapter it says nothing");
    draft.out.set("adapter.kind", "full", "no adapter: every weight is trained");
    for (const char* key : {"peft_use_dora", "peft_use_rslora", "lora_target_linear", "lora_target_modules"})
      draft.leave(key, "without an adapter it says nothing");
    return;
  }
  set_low_rank(draft, "adapter: " + adapter, "peft_use_dora", "peft_use_rslora");
  const auto* modules = draft.take("lora_target_modules");
  const auto names = modules ? names_of(*modules) : std::vector<std::string>();
  const bool all = names == std::vector<std::string>{"all-linear"};
  if (draft.truth("lora_target_linear")) {
    draft.out.set("adapter.targets", "[all]", "lora_target_linear");
    draft.leave("lora_target_modules", "lora_target_linear takes every linear layer");
  } else if (!names.empty()) {
    draft.out.set("adapter.targets", all ? "[all]" : yaml_names(names), "lora_target_modules");
  } else if (modules) {
    draft.leave("lora_target_modules", "adapter.targets is a list of names");
  }
  if (const auto* tokens = draft.take("peft_trainable_token_indices")) {
    if (tokens->kind == YamlNode::Kind::list) {
      std::string list;
      for (const auto& id : names_of(*tokens)) list += (list.empty() ? "" : ", ") + yaml_text(id);
      draft.out.set("adapter.trainable_tokens", "[" + list + "]", "peft_trainable_token_indices");
    } else {
      draft.leave("peft_trainable_token_indices", "adapter.trainable_tokens is a list of ids, of embeddings");
    }
  }
  if (const auto folder = draft.text("lora_model_dir"); !folder.empty())
    set_adapter_from(draft, folder, "lora_model_dir");
}

bool only_texts(const Draft& draft) {
  for (size_t i = 0;; ++i) {
    const auto at = fmt::format("data.sources.{}.", i);
    if (!draft.out.has(at + "path")) return i > 0;
    if (draft.out.value(at + "kind") != "text") return false;
  }
}

void translate_loss_and_length(Draft& draft) {
  if (draft.truth("train_on_inputs")) draft.out.set("data.loss", "all", "train_on_inputs: true");
  const auto strategy = draft.text("excess_length_strategy");
  const auto said = "excess_length_strategy: " + strategy;
  if (strategy == "raise") {
    draft.out.set("data.length", "error", said);
  } else if (only_texts(draft)) {
    draft.out.set("data.length", "split", "a longer text becomes several samples");
  } else if (strategy == "truncate") {
    draft.out.set("data.length", "cut", said);
    draft.look("data.length", "cut shortens what is asked, never an answer");
  } else {
    draft.out.set("data.length", "skip", strategy.empty() ? "longer samples are dropped there" : said);
  }
  if (draft.truth("dataset_exact_deduplication")) {
    draft.out.set("data.near_duplicates.similarity", "1", "dataset_exact_deduplication");
    draft.out.set("data.near_duplicates.remove", "true", "dataset_exact_deduplication");
  }
}

}  // namespace

void translate_axolotl(Draft& draft) {
  for (const char* key : {"rl", "reward_model", "process_reward_model"})
    if (const auto* value = draft.take(key); value && !is_off(*value))
      draft.refuse(*value, key,
                   fmt::format("{}: retort trains on answers, not on preferences or rewards", shown(*value)));
  auto adapter = draft.text("adapter");
  if (adapter == "none" || adapter == "false") adapter.clear();
  if (!adapter.empty() && adapter != "lora" && adapter != "qlora")
    draft.refuse(*draft.take("adapter"), "adapter",
                 fmt::format("expected lora, qlora or none, found '{}'", printable(adapter)));
  draft.copy_keys();
  set_base(draft, "base_model", bits(draft, adapter),
           adapter == "qlora" ? "adapter: qlora" : "load_in_4bit, load_in_8bit");
  const auto row_tokens = draft.whole("sequence_len").value_or(512);
  set_row_tokens(draft, row_tokens, draft.take("sequence_len") ? "sequence_len" : "the default of Axolotl");
  const bool held_out = translate_sources(draft);
  translate_loss_and_length(draft);
  set_held_out(draft, draft.number("val_set_size"), "val_set_size", held_out);
  translate_adapter(draft, adapter);
  const std::string packed = draft.truth("sample_packing") ? "sample_packing" : "";
  translate_training(draft,
                     {.batch = "micro_batch_size",
                      .epochs = "num_epochs",
                      .optimizer = "optimizer",
                      .schedule = "lr_scheduler",
                      .usual_batch = 1,
                      .usual_epochs = 1,
                      .usual_schedule = "cosine",
                      .usual_rate = 0,
                      .usual_warmup = 0.03,
                      .packed = packed},
                     row_tokens);
  set_exports(draft, !adapter.empty(), draft.truth("merge_lora") ? "merge_lora" : "");
}

}  // namespace retort
