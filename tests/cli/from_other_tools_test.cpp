// `retort init --from`: recipes of Axolotl, LLaMA-Factory and TRL become recipes that pass `retort check`.
#include "base/json.h"
#include "cli/run_program.h"
#include "where.h"  // tests

namespace retort {

namespace {

namespace fs = std::filesystem;

const fs::path kBase = fs::path(source_dir()) / "checkpoints/smollm2-135m-instruct-q4_1.gguf";
constexpr int kRecords = 24;

class From : public testing::Test {
 protected:
  void SetUp() override {
    if (!fs::exists(kBase)) GTEST_SKIP() << kBase << " is absent: run tools/setup";
  }
  // The recipe that is made of `theirs`; it passes `check`.
  std::string recipe_of(const std::string& theirs, const std::string& more = "") {
    const auto file = (folder.path / fmt::format("{}.yaml", ++written)).string();
    const auto made = retort(fmt::format("init {} --from '{}' --output '{}'", more, theirs, file));
    EXPECT_EQ(made.exit, 0) << made.err;
    if (made.exit != 0) return "";
    said = made.out;
    const auto checked = retort("check '" + file + "' --no-step --samples 0");
    EXPECT_EQ(checked.exit, 0) << checked.err << read_text(file);
    return read_text(file);
  }
  std::string alpaca_records() const {
    std::string lines;
    for (int i = 0; i < kRecords; ++i)
      lines += OrderedJson{{"instruction", fmt::format("How long may a parcel of kind {} wait?", i)},
                           {"input", ""},
                           {"output", fmt::format("About {} days, as the house rules say.", i + 2)}}
                   .dump() +
               "\n";
    return lines;
  }
  std::string chats(const char* list, const char* role, const char* content, const char* asks,
                    const char* answers) const {
    std::string lines;
    for (int i = 0; i < kRecords; ++i)
      lines += OrderedJson{{list,
                            {{{role, asks}, {content, fmt::format("Does it hurt since day {}?", i)}},
                             {{role, answers}, {content, fmt::format("Rest for {} days.", i + 2)}}}}}
                   .dump() +
               "\n";
    return lines;
  }
  Folder folder;
  int written = 0;
  std::string said;
};

}  // namespace

TEST_F(From, AxolotlOnInstructions) {
  const auto data = folder.write("cases.jsonl", alpaca_records());
  const auto recipe = recipe_of(folder.write(
      "axolotl.yaml",
      "base_model: " + kBase.string() + "\nload_in_4bit: true\nstrict: false\ndatasets:\n  - path: " + data +
          "\n    type: alpaca\nval_set_size: 0.25\noutput_dir: ./outputs/qlora-out\nadapter: qlora\n"
          "lora_model_dir:\nsequence_len: 512\nsample_packing: true\nlora_r: 8\nlora_alpha: "
          "16\nlora_dropout: "
          "0.05\nlora_target_linear: true\nwandb_project:\ngradient_accumulation_steps: 4\nmicro_batch_size: "
          "2\n"
          "num_epochs: 4\noptimizer: adamw_bnb_8bit\nlr_scheduler: cosine\nlearning_rate: 0.0002\nbf16: "
          "auto\n"
          "gradient_checkpointing: true\nflash_attention: true\nwarmup_ratio: 0.1\nevals_per_epoch: 4\n"));
  EXPECT_NE(recipe.find("weights: keep   # adapter: qlora: 4 bits; a .gguf file is trained on as it is\n"),
            std::string::npos)
      << recipe;
  EXPECT_NE(said.find("left out      flash_attention (true): "), std::string::npos) << said;
  EXPECT_NE(said.find("a recipe of Axolotl; written: "), std::string::npos) << said;
  EXPECT_EQ(said.find("LOOK HERE"), std::string::npos) << said;
}

TEST_F(From, AxolotlOnChatsWithNamesOfTheirOwn) {
  const auto data = folder.write("chats.jsonl", chats("turns", "who", "said", "patient", "doctor"));
  recipe_of(
      folder.write("chats.yaml",
                   "base_model: " + kBase.string() + "\nchat_template: chatml\ndatasets:\n  - path: " + data +
                       "\n    type: chat_template\n    field_messages: turns\n"
                       "    message_property_mappings: {role: who, content: said}\n"
                       "    roles: {user: [patient], assistant: [doctor]}\nval_set_size: 4\nadapter: lora\n"
                       "lora_r: 8\nlora_alpha: 16\nlora_target_modules: [q_proj, v_proj]\nsequence_len: 512\n"
                       "micro_batch_size: 2\nmax_steps: 4\noptimizer: adamw_torch_fused\n"
                       "learning_rate: 1e-4\n"));
}

TEST_F(From, LlamaFactoryWithItsListOfDataSets) {
  folder.write("clinic.jsonl", chats("conversations", "from", "value", "human", "gpt"));
  folder.write("cases.jsonl", alpaca_records());
  folder.write("dataset_info.json",
               R"({"clinic": {"file_name": "clinic.jsonl", "formatting": "sharegpt"},
                   "cases": {"file_name": "cases.jsonl",
                             "columns": {"prompt": "instruction", "query": "input",
                                         "response": "output"}}})");
  recipe_of(folder.write(
      "factory.yaml",
      "model_name_or_path: " + kBase.string() + "\nstage: sft\ndo_train: true\nfinetuning_type: lora\n" +
          "lora_rank: 8\nlora_target: all\ndataset: clinic,cases\ndataset_dir: " + folder.path.string() +
          "\ntemplate: chatml\ncutoff_len: 512\noutput_dir: saves/lora\nlogging_steps: 10\nsave_steps: 500\n"
          "plot_loss: true\nreport_to: none\nper_device_train_batch_size: 1\ngradient_accumulation_steps: 8\n"
          "learning_rate: 1.0e-4\nnum_train_epochs: 3.0\nlr_scheduler_type: cosine\nwarmup_ratio: 0.1\nbf16: "
          "true\n"
          "val_size: 0.25\neval_strategy: steps\neval_steps: 5\n"));
}

TEST_F(From, TrlAndTheJsonOfItsArguments) {
  const auto data = folder.write("chats.jsonl", chats("messages", "role", "content", "user", "assistant"));
  recipe_of(
      folder.write("trl.yaml", "model_name_or_path: " + kBase.string() + "\ndataset_name: " + data +
                                   "\nuse_peft: true\nlora_r: 8\nlora_target_modules: all-linear\n"
                                   "max_length: 512\npacking: false\nassistant_only_loss: true\n"
                                   "learning_rate: 2.0e-4\nmax_steps: 4\nper_device_train_batch_size: 2\n"));
  recipe_of(folder.write("arguments.json",
                         R"({"output_dir": "out", "learning_rate": 2e-05, "per_device_train_batch_size": 8,
                             "num_train_epochs": 1.0, "max_steps": -1, "lr_scheduler_type": "linear",
                             "warmup_ratio": 0.03, "fp16": false, "seed": 42})"),
            fmt::format("'{}' --model '{}'", data, kBase.string()));
  EXPECT_NE(said.find("LOOK HERE     adapter.kind: the file says nothing of it"), std::string::npos) << said;
}

TEST(FromFiles, WhatCannotBeTranslatedIsOneLine) {
  Folder folder;
  const auto output = (folder.path / "ours.yaml").string();
  const auto dpo = folder.write("dpo.yaml", "stage: dpo\nfinetuning_type: lora\n");
  expect_one_line(
      retort("init --from '" + dpo + "' --output '" + output + "'"), 2,
      "retort: " + dpo +
          ":1:8: stage: expected sft or pt, found 'dpo': retort trains on answers and texts, not on "
          "preferences or rewards; nothing was written");
  EXPECT_FALSE(fs::exists(output));
  expect_one_line(retort("init"), 2, "retort: data is required; `retort init --help` shows what it takes");
  expect_one_line(retort("explain --from unsloth"), 2,
                  "retort: --from: expected axolotl, llama-factory, trl or all, found 'unsloth'");
  EXPECT_EQ(retort("explain --from all").out, read_text(fs::path(source_dir()) / "docs/from-other-tools.md"));
  EXPECT_EQ(retort("explain learning rate").exit, 0);
}

}  // namespace retort
