// Recipes of Axolotl, LLaMA-Factory and TRL, written here after the kind of their published examples.
#include "recipe/translate.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "base/error.h"
#include "recipe/recipe.h"

namespace retort {

namespace {

namespace fs = std::filesystem;

constexpr const char* kAxolotl = R"(base_model: NousResearch/Llama-3.2-1B
load_in_8bit: false
load_in_4bit: true
strict: false
chat_template: chatml
datasets:
  - path: dialogues.jsonl
    type: chat_template
    field_messages: turns
    message_property_mappings:
      role: who
      content: said
    roles:
      user: [patient]
      assistant: [doctor, nurse]
    shards: 4
val_set_size: 0.1
output_dir: ./outputs/qlora-out
adapter: qlora
lora_model_dir:
sequence_len: 4096
sample_packing: true
lora_r: 32
lora_alpha: 16
lora_dropout: 0.05
lora_target_linear: true
wandb_project: clinic
gradient_accumulation_steps: 4
micro_batch_size: 2
num_epochs: 3.0
optimizer: paged_adamw_8bit
lr_scheduler: cosine
learning_rate: 2e-4
bf16: auto
tf32: false
gradient_checkpointing: true
logging_steps: 1
flash_attention: true
warmup_ratio: 0.1
evals_per_epoch: 4
special_tokens:
  pad_token: "<|end_of_text|>"
)";

constexpr const char* kLlamaFactory = R"(### model
model_name_or_path: Qwen/Qwen3-4B-Instruct-2507
trust_remote_code: true
### method
stage: sft
do_train: true
finetuning_type: lora
lora_rank: 8
lora_target: q_proj,v_proj
### dataset
dataset: identity,clinic
template: qwen3_nothink
cutoff_len: 2048
max_samples: 1000
### output
output_dir: saves/qwen3-4b/lora/sft
save_steps: 500
plot_loss: true
report_to: none
### train
per_device_train_batch_size: 1
gradient_accumulation_steps: 8
learning_rate: 1.0e-4
num_train_epochs: 3.0
lr_scheduler_type: cosine
warmup_ratio: 0.1
bf16: true
ddp_timeout: 180000000
resume_from_checkpoint: null
val_size: 20
eval_strategy: steps
eval_steps: 100
)";

constexpr const char* kTrl = R"(model_name_or_path: Qwen/Qwen2.5-0.5B
dataset_name: trl-lib/Capybara
learning_rate: 2.0e-4
max_steps: 60
packing: true
per_device_train_batch_size: 2
gradient_accumulation_steps: 8
eos_token: <|im_end|>
eval_strategy: steps
eval_steps: 20
use_peft: true
lora_r: 32
lora_alpha: 16
lora_target_modules: all-linear
assistant_only_loss: true
)";

Translation translated(const std::string& text, const TranslateOptions& options = {}) {
  return translate_recipe(text, "theirs.yaml", options);
}

Recipe recipe_of(const Translation& made) {
  try {
    return parse_recipe(made.recipe, "ours.yaml").recipe;
  } catch (const RecipeError& error) {
    ADD_FAILURE() << error.what() << "\n" << made.recipe;
    return {};
  }
}

std::string error_of(const std::string& text, const TranslateOptions& options = {}) {
  try {
    return translated(text, options).recipe;
  } catch (const RecipeError& error) { return error.what(); }
}

std::string all_of(const std::vector<std::string>& lines) {
  std::string text;
  for (const auto& line : lines) text += line + "\n";
  return text;
}

// A whole word: warmup_steps is not named where warmup_steps_total is.
bool names_key(const std::string& text, const std::string& key) {
  const auto inside = [](char c) { return std::isalnum(static_cast<unsigned char>(c)) || c == '_'; };
  for (auto at = text.find(key); at != text.npos; at = text.find(key, at + 1)) {
    const auto end = at + key.size();
    if ((at == 0 || !inside(text[at - 1])) && (end == text.size() || !inside(text[end]))) return true;
  }
  return false;
}

class Folder {
 public:
  Folder() : path(fs::temp_directory_path() / fmt::format("retort_translate_{}", getpid())) {
    fs::create_directories(path);
  }
  ~Folder() { fs::remove_all(path); }
  std::string write(const std::string& name, const std::string& text) const {
    std::ofstream(path / name) << text;
    return (path / name).string();
  }
  fs::path path;
};

}  // namespace

TEST(Translate, AxolotlForQLoraOnChats) {
  const auto made = translated(kAxolotl);
  EXPECT_EQ(made.tool, Tool::axolotl);
  const auto recipe = recipe_of(made);
  EXPECT_EQ(recipe.model.path, "NousResearch/Llama-3.2-1B");
  EXPECT_EQ(recipe.model.weights, "nf4");
  ASSERT_EQ(recipe.data.sources.size(), 1u);
  const auto& source = recipe.data.sources[0];
  EXPECT_EQ(source.path, "dialogues.jsonl");
  using Names = std::vector<std::pair<std::string, std::string>>;
  EXPECT_EQ(source.fields_of_records.entries,
            (Names{{"messages", "\"turns\""}, {"role", "\"who\""}, {"content", "\"said\""}}));
  EXPECT_EQ(source.roles.entries,
            (Names{{"patient", "\"user\""}, {"doctor", "\"assistant\""}, {"nurse", "\"assistant\""}}));
  EXPECT_EQ(recipe.data.chat_template, "chatml");
  EXPECT_EQ(recipe.data.sample_tokens, 4096);
  EXPECT_EQ(recipe.data.length, "skip");
  EXPECT_EQ(recipe.data.held_out.fraction, 0.1);
  EXPECT_EQ(recipe.adapter.kind, "lora");
  EXPECT_EQ(recipe.adapter.rank, 32);
  EXPECT_EQ(recipe.adapter.alpha, 16);
  EXPECT_EQ(recipe.adapter.dropout, 0.05);
  EXPECT_EQ(recipe.adapter.targets, std::vector<std::string>{"all"});
  EXPECT_EQ(recipe.train.epochs, 3);
  EXPECT_EQ(recipe.train.batch.tokens, 2 * 4 * 4096);
  EXPECT_EQ(recipe.train.batch.pass_tokens, 4096);
  EXPECT_EQ(recipe.train.optimizer.kind, "adamw8bit");
  EXPECT_EQ(recipe.train.optimizer.learning_rate, 2e-4);
  EXPECT_EQ(recipe.train.schedule.warmup_share, 0.1);
  EXPECT_EQ(recipe.train.evaluate.per_epoch, 4);
  EXPECT_EQ(recipe.train.evaluate.every, 0);
  EXPECT_TRUE(recipe.train.recompute);
  EXPECT_EQ(recipe.train.seed, 42);  // Axolotl's own
  EXPECT_EQ(recipe.run.folder, "./outputs/qlora-out");
  EXPECT_EQ(recipe.exports.merged, "none");
  const auto left = all_of(made.left_out);
  for (const char* line :
       {"datasets[0].shards (4): data.sources[].limit",
        "wandb_project (clinic): ", "bf16 (auto): model.compute", "flash_attention (true): ",
        "special_tokens (with keys of its own): ", "off or empty there, and left out: strict, tf32"})
    EXPECT_NE(left.find(line), std::string::npos) << line << "\n" << left;
  const auto look = all_of(made.look_here);
  EXPECT_NE(look.find("model.path: no such file or folder here"), std::string::npos) << look;
  EXPECT_NE(made.recipe.find("  rank: 32   # lora_r\n"), std::string::npos) << made.recipe;
  EXPECT_NE(made.recipe.find("#   flash_attention (true): "), std::string::npos) << made.recipe;
}

TEST(Translate, LlamaFactoryLooksDataSetsUp) {
  Folder folder;
  folder.write("dataset_info.json", R"({"identity": {"file_name": "identity.json"},
    "clinic": {"file_name": "clinic.json", "formatting": "sharegpt",
      "columns": {"messages": "turns", "system": "rules", "images": "pictures"},
      "tags": {"role_tag": "who", "content_tag": "said",
               "user_tag": "patient", "assistant_tag": "doctor"}}})");
  const auto made = translated(kLlamaFactory + ("dataset_dir: " + folder.path.string() + "\n"));
  EXPECT_EQ(made.tool, Tool::llama_factory);
  const auto recipe = recipe_of(made);
  ASSERT_EQ(recipe.data.sources.size(), 2u);
  EXPECT_EQ(recipe.data.sources[0].path, (folder.path / "identity.json").string());
  EXPECT_EQ(recipe.data.sources[0].kind, "alpaca");
  EXPECT_EQ(recipe.data.sources[0].limit, 1000);
  using Names = std::vector<std::pair<std::string, std::string>>;
  EXPECT_EQ(
      recipe.data.sources[1].fields_of_records.entries,
      (Names{
          {"messages", "\"turns\""}, {"role", "\"who\""}, {"content", "\"said\""}, {"system", "\"rules\""}}));
  EXPECT_EQ(recipe.data.sources[1].roles.entries,
            (Names{{"patient", "\"user\""}, {"doctor", "\"assistant\""}}));
  EXPECT_EQ(recipe.data.chat_template, "auto");
  EXPECT_EQ(recipe.data.length, "cut");
  EXPECT_EQ(recipe.data.held_out.count, 20);
  EXPECT_EQ(recipe.adapter.rank, 8);
  EXPECT_EQ(recipe.adapter.alpha, 16);  // lora_rank * 2 there
  EXPECT_EQ(recipe.adapter.targets, (std::vector<std::string>{"q_proj", "v_proj"}));
  EXPECT_EQ(recipe.train.batch.samples, 8);
  EXPECT_EQ(recipe.train.batch.tokens, 0);
  EXPECT_EQ(recipe.train.evaluate.every, 100);
  EXPECT_EQ(recipe.train.checkpoint.every, 500);
  const auto left = all_of(made.left_out);
  for (const char* line : {"trust_remote_code (true): ", "dataset_info.json: clinic.columns.images",
                           "ddp_timeout (180000000): ", "plot_loss (true): "})
    EXPECT_NE(left.find(line), std::string::npos) << line << "\n" << left;
}

TEST(Translate, TrlWithWhatItDoesByDefault) {
  const auto made = translated(kTrl);
  EXPECT_EQ(made.tool, Tool::trl);
  const auto recipe = recipe_of(made);
  EXPECT_EQ(recipe.train.steps, 60);
  EXPECT_EQ(recipe.data.sample_tokens, 1024);
  EXPECT_EQ(recipe.train.batch.tokens, 2 * 8 * 1024);
  EXPECT_EQ(recipe.train.schedule.kind, "linear");
  EXPECT_EQ(recipe.data.loss, "completion");
  EXPECT_EQ(recipe.adapter.dropout, 0.05);
  EXPECT_EQ(recipe.adapter.targets, std::vector<std::string>{"all"});
  ASSERT_EQ(recipe.data.sources.size(), 2u);  // eval_strategy asks for the split to test on
  EXPECT_EQ(recipe.data.sources[1].split, "test");
  EXPECT_EQ(recipe.data.sources[1].use, "held_out");

  Folder folder;
  const auto pairs = folder.write("pairs.jsonl", "{\"prompt\": \"Why?\", \"completion\": \"So.\"}\n");
  const auto texts = folder.write("texts.jsonl", "{\"text\": \"Once upon a time.\"}\n");
  const auto loss = [&](const std::string& data) {
    return recipe_of(translated("model_name_or_path: a.gguf\ndataset_name: " + data + "\n")).data.loss;
  };
  EXPECT_EQ(loss(pairs), "completion");
  EXPECT_EQ(loss(texts), "all");
}

TEST(Translate, JsonOfTrainingArgumentsIsGivenModelAndData) {
  const std::string arguments =
      R"({"output_dir": "out", "per_device_train_batch_size": 4, "learning_rate": 5e-05, "weight_decay": 0.01,
      "num_train_epochs": 2.5, "max_steps": -1, "lr_scheduler_type": "constant_with_warmup",
      "warmup_steps": 0.05,
      "fp16": false, "local_rank": 0, "log_level": "passive", "save_strategy": "no", "optim": "adafactor"})";
  EXPECT_NE(error_of(arguments).find("theirs.yaml: names no model; name one with --model"),
            std::string::npos);
  const auto made = translated(arguments, {"", "base.gguf", "cases.csv"});
  EXPECT_EQ(made.tool, Tool::trl);
  const auto recipe = recipe_of(made);
  EXPECT_EQ(recipe.model.path, "base.gguf");
  EXPECT_EQ(recipe.data.sources[0].path, "cases.csv");
  EXPECT_EQ(recipe.train.epochs, 2.5);
  EXPECT_EQ(recipe.train.schedule.kind, "constant");
  EXPECT_EQ(recipe.train.schedule.warmup_share, 0.05);
  EXPECT_EQ(recipe.train.checkpoint.every, 0);
  const auto look = all_of(made.look_here);
  for (const char* line :
       {"train.optimizer.kind: optim is adafactor there", "adapter.kind: the file says nothing of it"})
    EXPECT_NE(look.find(line), std::string::npos) << line << "\n" << look;
}

TEST(Translate, TimesOfAnEpoch) {
  const std::string axolotl =
      "base_model: a.gguf\nadapter: lora\nmicro_batch_size: 1\nlearning_rate: 1e-4\nval_set_size: 0.1\n"
      "datasets: [{path: b.jsonl, type: alpaca}]\n";
  const auto each = recipe_of(translated(axolotl + "saves_per_epoch: 2\nevals_per_epoch: 3\n")).train;
  EXPECT_EQ(each.checkpoint.per_epoch, 2);
  EXPECT_EQ(each.evaluate.per_epoch, 3);
  const auto factory = recipe_of(
      translated("model_name_or_path: a.gguf\ndataset: a\nfinetuning_type: lora\nstage: sft\nval_size: 0.1\n"
                 "eval_strategy: epoch\nsave_strategy: epoch\nsave_steps: 500\nlearning_rate: 1e-4\n"));
  EXPECT_EQ(factory.train.evaluate.per_epoch, 1);
  EXPECT_EQ(factory.train.checkpoint.per_epoch, 1);
  EXPECT_EQ(factory.train.checkpoint.every, 100);  // as it is without a word
}

TEST(Translate, TheBestOfNoEvaluationsIsLeftOut) {
  const std::string theirs =
      "base_model: a.gguf\nadapter: lora\nmicro_batch_size: 1\nload_best_model_at_end: true\n"
      "early_stopping_patience: 3\ndatasets: [{path: b.jsonl, type: alpaca}]\n";
  const auto made = translated(theirs + "val_set_size: 0\n");
  const auto recipe = recipe_of(made);
  EXPECT_FALSE(recipe.train.evaluate.keep_best);
  EXPECT_EQ(recipe.train.evaluate.patience, 0);
  EXPECT_NE(all_of(made.look_here)
                .find("train.evaluate.keep_best: true (load_best_model_at_end) has no loss to go by"),
            std::string::npos)
      << all_of(made.look_here);
  EXPECT_TRUE(recipe_of(translated(theirs + "val_set_size: 0.1\n")).train.evaluate.keep_best);
}

TEST(Translate, SaysWhoseItIsOrAsks) {
  EXPECT_NE(error_of("colour: red\n").find("holds no key of Axolotl, LLaMA-Factory or TRL"),
            std::string::npos);
  EXPECT_NE(error_of("micro_batch_size: 1\ncutoff_len: 512\n").find("holds keys of several tools; say which"),
            std::string::npos);
  EXPECT_NE(error_of("a: 1", {"unsloth", "", ""}).find("--kind: expected axolotl, llama-factory or trl"),
            std::string::npos);
  EXPECT_NE(error_of("- a\n- b\n").find("expected keys and values, found a list of 2"), std::string::npos);
}

TEST(Translate, RefusesWhatWouldBeAnotherTraining) {
  const std::string axolotl = kAxolotl, factory = kLlamaFactory;
  EXPECT_NE(error_of(axolotl + "rl: dpo\n").find(": rl: dpo: retort trains on answers"), std::string::npos);
  EXPECT_NE(error_of("stage: dpo\ncutoff_len: 512\n")
                .find("theirs.yaml:1:8: stage: expected sft or pt, found 'dpo'"),
            std::string::npos);
  EXPECT_NE(error_of("finetuning_type: freeze\n").find("expected lora or full, found 'freeze'"),
            std::string::npos);
  EXPECT_NE(error_of("base_model: a\nlearning_rate: fast\n")
                .find("theirs.yaml:2:16: learning_rate: expected a number above 0, found 'fast'"),
            std::string::npos);
  EXPECT_NE(error_of("base_model: a\nbase_model: b\n").find("key given twice"), std::string::npos);
}

// A switch is on, off or an error: 1 was off once.
TEST(Translate, SwitchesAreOnOffOrRefused) {
  const std::string axolotl =
      "base_model: a\nadapter: lora\ndatasets: [{path: a.jsonl, type: chat_template}]\nlearning_rate: 1e-4\n";
  const std::string factory = "model_name_or_path: a\ndataset: a\nfinetuning_type: lora\nstage: sft\n";
  const std::string trl = "model_name_or_path: a\ndataset_name: a.jsonl\n";
  const TranslateOptions as_trl{word_of(Tool::trl), "", ""};
  for (const char* on : {"1", "true", "True", "yes", "on"}) {
    const auto is = std::string(": ") + on + "\n";
    EXPECT_EQ(recipe_of(translated(axolotl + "load_in_4bit" + is)).model.weights, "nf4") << on;
    EXPECT_EQ(recipe_of(translated(axolotl + "peft_use_dora" + is)).adapter.kind, "dora") << on;
    EXPECT_GT(recipe_of(translated(axolotl + "sample_packing" + is)).train.batch.tokens, 0) << on;
    EXPECT_GT(recipe_of(translated(factory + "packing" + is)).train.batch.tokens, 0) << on;
    EXPECT_EQ(recipe_of(translated(factory + "use_dora" + is)).adapter.kind, "dora") << on;
    EXPECT_EQ(recipe_of(translated(trl + "use_peft" + is, as_trl)).adapter.kind, "lora") << on;
    EXPECT_EQ(recipe_of(translated(trl + "completion_only_loss" + is, as_trl)).data.loss, "completion") << on;
    EXPECT_EQ(recipe_of(translated(trl + "use_cpu" + is, as_trl)).device, "cpu") << on;
  }
  for (const char* off : {"0", "false", "no", "off", "none", "''", "null"}) {
    const auto is = std::string(": ") + off + "\n";
    EXPECT_EQ(recipe_of(translated(axolotl + "load_in_4bit" + is)).model.weights, "keep") << off;
    EXPECT_EQ(recipe_of(translated(factory + "use_dora" + is)).adapter.kind, "lora") << off;
  }
  EXPECT_NE(error_of(axolotl + "load_in_4bit: 4\n")
                .find("load_in_4bit: expected true or false, found '4'; nothing was written"),
            std::string::npos)
      << error_of(axolotl + "load_in_4bit: 4\n");
  EXPECT_NE(error_of(trl + "packing: bfd\n", as_trl).find("packing: expected true or false, found 'bfd'"),
            std::string::npos);
}

TEST(Translate, OfTwoKeysForTheTargetsOneIsLeft) {
  const auto made = translated(
      "base_model: a\nadapter: lora\ndatasets: [{path: a.jsonl, type: chat_template}]\nlearning_rate: 1e-4\n"
      "lora_target_linear: true\nlora_target_modules: [q_proj]\n");
  EXPECT_EQ(recipe_of(made).adapter.targets, std::vector<std::string>{"all"});
  EXPECT_NE(all_of(made.left_out).find("lora_target_modules (a list of 1): lora_target_linear takes"),
            std::string::npos)
      << all_of(made.left_out);
}

TEST(Translate, DevicesAreOurs) {
  const std::string theirs =
      "base_model: a\nadapter: lora\ndatasets: [{path: a.jsonl, type: chat_template}]\nlearning_rate: 1e-4\n";
  EXPECT_EQ(recipe_of(translated(theirs)).device, "cpu");
  EXPECT_EQ(recipe_of(translated(theirs + "device: cuda:1\n")).device, "cuda:1");
  EXPECT_EQ(recipe_of(translated(theirs + "device_map: auto\n")).device, "auto");
  EXPECT_NE(all_of(translated(theirs + "device: 0\n").left_out).find("device (0): device is cpu"),
            std::string::npos);  // the first GPU, and nothing that is off
  const auto left = all_of(translated(theirs + "device: mps\ndevice_map: {first: 0}\nfsdp: [full_shard]\n"
                                               "ddp_timeout: 60\n")
                               .left_out);
  for (const char* line : {"device (mps): device is cpu, cuda, cuda:N or auto",
                           "device_map (with keys of its own): device is cpu, cuda, cuda:N or auto",
                           "fsdp (a list of 1): one device computes a model; device says which",
                           "ddp_timeout (60): `mpirun -n 4 retort-ranks run RECIPE` divides"})
    EXPECT_NE(left.find(line), std::string::npos) << line << "\n" << left;
}

// What stands in a comment or a name cannot become a key.
TEST(Translate, TextsOfTheirsStayTexts) {
  const auto made = translated(
      "base_model: \"a\\nexport: {}\"\ndatasets: [{path: \"b\\n#c\", type: completion, field: 'x: y'}]\n"
      "adapter: lora\nexcess_length_strategy: \"drop\\nrun: {folder: elsewhere}\"\nlearning_rate: 1e-4\n"
      "odd: \"1\\nseed: 2\"\ndefault_system_message: 'Answer with {code}.'\n");
  const auto recipe = recipe_of(made);
  EXPECT_EQ(recipe.model.path, "a\nexport: {}");
  EXPECT_EQ(recipe.data.sources[0].path, "b\n#c");
  EXPECT_EQ(recipe.data.sources[0].kind, "text");
  EXPECT_EQ(recipe.data.sources[0].system, "Answer with {{code}}.");
  EXPECT_EQ(recipe.run.folder, "");
  EXPECT_NE(all_of(made.left_out).find("odd (1\\x0aseed: 2): no key of Axolotl that is known here"),
            std::string::npos)
      << all_of(made.left_out);
}

// Each key of the table, with values of several kinds: with each of them it is translated, listed or refused
// by its name.
TEST(Translate, NothingIsDroppedWithoutAWord) {
  const std::pair<Tool, std::string> least[] = {
      {Tool::axolotl,
       "base_model: a.gguf\nadapter: lora\ndatasets: [{path: a.jsonl, type: chat_template}]\nlearning_rate: "
       "1e-4\n"},
      {Tool::llama_factory, "model_name_or_path: a.gguf\ndataset: a\nfinetuning_type: lora\nstage: sft\n"},
      {Tool::trl, "model_name_or_path: a.gguf\ndataset_name: a.jsonl\nuse_peft: true\nload_in_4bit: true\n"}};
  for (const auto& [tool, text] : least) {
    for (const auto& row : other_keys()) {
      if (!row.of(tool)) continue;
      for (const auto& key : words_of(row.keys)) {
        if (key.find_first_of("*.") != std::string::npos || text.find(key + ":") != std::string::npos)
          continue;
        for (const char* value : {"true", "1", "7", "elsewhere", "epoch", "keep_end", "fp4"}) {
          std::string said;
          try {
            const auto made = translated(text + key + ": " + value + "\n", {word_of(tool), "", ""});
            said = made.recipe + all_of(made.left_out);
          } catch (const RecipeError& error) { said = error.what(); }
          EXPECT_TRUE(names_key(said, key)) << name_of(tool) << ": " << key << ": " << value;
        }
      }
    }
  }
}

}  // namespace retort
