// The template that a model was trained with, and what ends its answers, are in every file of an export.
#include <gtest/gtest.h>

#include <algorithm>

#include "base/error.h"
#include "base/files.h"
#include "export/artefacts.h"
#include "export/tiny_models.h"  // tests/export
#include "formats/weight_file.h"
#include "models/own_templates.h"

namespace retort {
namespace {

namespace fs = std::filesystem;

// The golden llama (eos 2) with ChatML's tokens at 94 and 95, and what tokenizer_config.json says besides.
fs::path chat_folder(const TemporaryFolder& folder, const Json& more = Json::object()) {
  auto tokenizer = tiny_tokenizer(94);
  for (const char* name : {"<|im_start|>", "<|im_end|>"})
    tokenizer["added_tokens"].push_back(
        {{"id", name[5] == 's' ? 94 : 95}, {"content", name}, {"special", true}});
  const auto path = tiny_folder(folder / "tiny", "llama", tokenizer);
  auto config = read_json(path / "tokenizer_config.json");
  config.update(more);
  write_text(path / "tokenizer_config.json", config.dump());
  return path;
}

TEST(ExportedTemplate, IsTheOneThatWasTrained) {
  const auto smollm2 = chat_template_source("smollm2", false);
  for (const bool had_another : {false, true}) {
    const TemporaryFolder folder;
    const auto base = chat_folder(folder, had_another ? Json({{"chat_template", smollm2}}) : Json::object());
    auto loaded = load_model({.path = base.string(), .compute = "f32"});
    EXPECT_EQ(loaded.chat ? loaded.chat->name : "none", had_another ? "smollm2" : "none");
    use_template(loaded, *find_chat_template("chatml"));
    use_template(loaded, *find_chat_template("chatml"));  // twice is once
    EXPECT_EQ(loaded.model->config.eos, (std::vector<int32_t>{95, 2}));

    write_hf_folder(folder / "merged", loaded, WeightType::f32, uint64_t{1} << 30, 1);
    const fs::path merged = folder / "merged";
    EXPECT_EQ(read_json(merged / "config.json")["eos_token_id"], Json({95, 2}));
    EXPECT_EQ(read_json(merged / "generation_config.json")["eos_token_id"], Json({95, 2}));
    EXPECT_EQ(read_json(merged / "tokenizer_config.json")["eos_token"], "<|im_end|>");
    EXPECT_EQ(read_json(merged / "tokenizer_config.json")["chat_template"],
              chat_template_source("chatml", false));
    EXPECT_EQ(load_model({.path = merged.string()}).chat->name, "chatml");

    const fs::path file = folder / "model.gguf";
    write_gguf_model(file, loaded, *mixture_from_name("F32"), true, 1);
    const auto written = open_gguf(file);
    EXPECT_EQ(whole_number(written.metadata("tokenizer.ggml.eos_token_id")), 2);
    EXPECT_EQ(whole_number(written.metadata("tokenizer.ggml.eot_token_id")), 95);
    ASSERT_TRUE(text(written.metadata("tokenizer.chat_template")));
    EXPECT_EQ(*text(written.metadata("tokenizer.chat_template")), chat_template_source("chatml", false));
    EXPECT_EQ(load_model({.path = file.string()}).chat->name, "chatml");
    write_modelfile(folder / "model.Modelfile", file, loaded);
    const auto plain = read_text(folder / "model.Modelfile");
    EXPECT_NE(plain.find("PARAMETER stop \"<|im_end|>\""), std::string::npos);
    EXPECT_EQ(plain.find("SYSTEM"), std::string::npos);
    write_modelfile(folder / "model.Modelfile", file, loaded, "Answer with \"yes\" or\n\"no\".");
    EXPECT_EQ(read_text(folder / "model.Modelfile"),
              plain + "SYSTEM \"\"\"Answer with \"yes\" or\n\"no\".\"\"\"\n");
    write_modelfile(folder / "model.Modelfile", file, loaded, "Say \"yes\"");
    EXPECT_NE(read_text(folder / "model.Modelfile").find("# The system message that it was trained with"),
              std::string::npos);
  }
}

// A text of nobody's family, as the recipe names it with its switches: in every file, and read back as
// itself.
TEST(ExportedTemplate, IsAnyTextWithItsSwitches) {
  const TemporaryFolder folder;
  auto loaded = load_model({.path = chat_folder(folder).string(), .compute = "f32"});
  const std::string source =
      "{% for m in messages %}<|im_start|>{{ m.role }}{{ mood }}{{ m.content }}<|im_end|>{% endfor %}{% if "
      "add_generation_prompt %}<|im_start|>assistant{{ mood }}{% endif %}";
  const auto& chat = choose_chat_template({source, {{"mood", "\"!\""}}}, "", *loaded.tokenizer);
  use_template(loaded, chat);
  EXPECT_EQ(loaded.model->config.eos, (std::vector<int32_t>{95, 2}));
  write_hf_folder(folder / "merged", loaded, WeightType::f32, uint64_t{1} << 30, 1);
  write_gguf_model(folder / "model.gguf", loaded, *mixture_from_name("F32"), true, 1);
  for (const auto& path : {folder / "merged", folder / "model.gguf"}) {
    const auto again = load_model({.path = path});
    EXPECT_EQ(again.chat_template_source, chat.source);
    ASSERT_NE(again.chat, nullptr);
    EXPECT_EQ(again.chat->name, chat.name);
    EXPECT_EQ(render_text(*again.chat, {{"user", "a"}, {"assistant", "b"}}, false),
              "<|im_start|>user!a<|im_end|><|im_start|>assistant!b<|im_end|>");
    EXPECT_EQ(again.chat->stops, std::vector<std::string>{"<|im_end|>"});
  }
}

// A text that is not kept here: none is better than another's.
TEST(ExportedTemplate, IsNotAnothersWhereItsTextIsUnknown) {
  const TemporaryFolder folder;
  auto loaded = load_model(
      {.path = chat_folder(folder, {{"chat_template", chat_template_source("smollm2", false)}}).string()});
  use_template(loaded, *find_chat_template("qwen3"));
  EXPECT_EQ(loaded.chat_template_source, "");
  EXPECT_EQ(loaded.chat->name, "qwen3");
  EXPECT_EQ(loaded.model->config.eos.front(), 95);
}

// V3.2 brings no text: its encoding is the model's own where the tokenizer has its tokens and no file says
// otherwise.
TEST(ExportedTemplate, OfAModelThatBringsAnEncoderIsTheBuiltInOne) {
  const TemporaryFolder folder;
  auto tokenizer = tiny_tokenizer(90);
  for (const char* name :
       {"<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>", "</think>"})
    tokenizer["added_tokens"].push_back(
        {{"id", 87 + tokenizer["added_tokens"].size()}, {"content", name}, {"special", true}});
  const auto path = tiny_folder(folder / "v32", "deepseek_v32", tokenizer);
  auto loaded = load_model({.path = path.string(), .compute = "f32"});
  ASSERT_NE(loaded.chat, nullptr);
  EXPECT_EQ(loaded.chat->name, "deepseek-v3.2");
  EXPECT_EQ(own_templates(loaded).text, "deepseek-v3.2");
  EXPECT_EQ(loaded.chat_template_source, "");  // nothing that others could read
  EXPECT_EQ(end_of_answer(loaded), 91);
  write_text(path / "chat_template.jinja", "{{ messages[0].content }}");
  EXPECT_TRUE(load_model({.path = path.string()}).chat->name.starts_with("jinja-"));
  const auto other = load_model({.path = tiny_folder(folder / "bare", "deepseek_v32", tiny_tokenizer(90))});
  EXPECT_EQ(other.chat, nullptr);
  EXPECT_EQ(own_templates(other).text, "");
}

TEST(ExportedTemplate, OthersByNameAreCarried) {
  const TemporaryFolder folder;
  const std::string chatml(chat_template_source("chatml", false));
  const Json templates = {{{"name", "default"}, {"template", chatml}},
                          {{"name", "tool_use"}, {"template", "{# tools #}"}}};
  auto loaded = load_model({.path = chat_folder(folder, {{"chat_template", templates}}).string()});
  const std::vector<std::pair<std::string, std::string>> others = {{"tool_use", "{# tools #}"}};
  EXPECT_EQ(loaded.chat_template_source, chatml);
  EXPECT_EQ(loaded.other_templates, others);

  write_hf_folder(folder / "merged", loaded, WeightType::f32, uint64_t{1} << 30, 1);
  EXPECT_EQ(read_json(fs::path(folder / "merged") / "tokenizer_config.json")["chat_template"], templates);
  write_gguf_model(folder / "model.gguf", loaded, *mixture_from_name("F32"), true, 1);
  const auto again = load_model({.path = folder / "model.gguf"});
  EXPECT_EQ(again.chat_template_source, chatml);
  EXPECT_EQ(again.other_templates, others);

  // With switches another text takes the default's place, and theirs goes with it.
  auto switched = load_model({.path = folder / "tiny"});
  const auto& chat = choose_chat_template({"auto", {{"add_generation_prompt", "true"}}},
                                          own_templates(switched), *switched.tokenizer);
  use_template(switched, chat);
  EXPECT_EQ(switched.other_templates,
            (std::vector<std::pair<std::string, std::string>>{{"tool_use", chat.tools_source}}));

  fs::create_directories(folder / "tiny/additional_chat_templates");
  write_text(folder / "tiny/additional_chat_templates/rag.jinja", "{# rag #}");
  EXPECT_EQ(load_model({.path = folder / "tiny"}).other_templates.front().first, "rag");
}

TEST(ExportedTemplate, SamplingSettingsOfTheBaseAreCarried) {
  const TemporaryFolder folder;
  const auto base = chat_folder(folder);
  write_text(base / "generation_config.json",
             R"({"temperature": 0.6, "top_k": 20, "do_sample": true, "eos_token_id": [2, 95],
                 "transformers_version": "4.0"})");
  auto loaded = load_model({.path = base.string()});
  write_hf_folder(folder / "merged", loaded, WeightType::f32, uint64_t{1} << 30, 1);
  const auto json = read_json(fs::path(folder / "merged") / "generation_config.json");
  EXPECT_EQ(json["temperature"], 0.6);
  EXPECT_EQ(json["top_k"], 20);
  EXPECT_EQ(json["do_sample"], true);
  EXPECT_EQ(json["eos_token_id"], Json({2, 95}));
  EXPECT_FALSE(json.contains("transformers_version"));
}

TEST(Folder, WithoutATokenizerConfigTakesItsIdsFromTheModels) {
  const TemporaryFolder folder;
  const auto base = chat_folder(folder);
  fs::remove(base / "tokenizer_config.json");
  auto loaded = load_model({.path = base.string()});
  EXPECT_EQ(loaded.tokenizer->eos, 2);
  EXPECT_EQ(loaded.tokenizer->bos, 1);
  EXPECT_EQ(loaded.tokenizer->pad, loaded.model->config.pad);
  write_gguf_model(folder / "model.gguf", loaded, *mixture_from_name("F32"), true, 1);
  EXPECT_EQ(whole_number(open_gguf(folder / "model.gguf").metadata("tokenizer.ggml.eos_token_id")), 2);
}

// Qwen 2.5 has "<|fim_prefix|>" with special: false: never made of content here, and called so no more than
// the file did.
TEST(Folder, KeepsWhatAnAddedTokenWasCalled) {
  const TemporaryFolder folder;
  auto tokenizer = tiny_tokenizer(95);
  tokenizer["added_tokens"].push_back({{"id", 95}, {"content", "<|fim_prefix|>"}, {"special", false}});
  auto loaded = load_model({.path = tiny_folder(folder / "tiny", "llama", tokenizer).string()});
  EXPECT_TRUE(loaded.tokenizer->is_special(95));
  write_hf_folder(folder / "merged", loaded, WeightType::f32, uint64_t{1} << 30, 1);
  for (const auto& token : read_json(fs::path(folder / "merged") / "tokenizer.json")["added_tokens"])
    EXPECT_EQ(token["special"], token["id"] != 95) << token;
}

// Some tools leave the index of a single file beside it.
TEST(Folder, MayHaveAnIndexOfItsSingleFile) {
  const TemporaryFolder folder;
  const auto base = chat_folder(folder);
  Json map = Json::object();
  for (const auto& tensor : open_safetensors(base / "model.safetensors").tensors)
    map[tensor.name] = "model.safetensors";
  write_text(base / "model.safetensors.index.json", Json({{"weight_map", map}}).dump());
  EXPECT_EQ(refusal_of([&] { load_model({.path = base.string()}); }), "accepted");
  map.begin().value() = "model-00001-of-00002.safetensors";
  write_text(base / "model.safetensors.index.json", Json({{"weight_map", map}}).dump());
  const auto said = refusal_of([&] { load_model({.path = base.string()}); });
  EXPECT_NE(said.find("which names other files; remove the one that is stale"), std::string::npos) << said;
}

}  // namespace
}  // namespace retort
