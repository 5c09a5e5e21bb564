// A folder with tokenizer.model and what was added to it later, as older releases of transformers save it.
#include "text/folder_settings.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include "base/error.h"
#include "base/files.h"
#include "text/made_model.h"
#include "text/tokenizer.h"

namespace retort {
namespace {

namespace fs = std::filesystem;

class FolderWithModel : public testing::Test {
 protected:
  void SetUp() override {
    fs::create_directories(folder);
    MadeModel model;
    model.pieces = {piece("<unk>", 0, 2), piece("<s>", 0, 3), piece("</s>", 0, 3), piece("a", -1),
                    piece("b", -2),       piece("ab", -3),    piece("\u2581", -4)};
    write_text(folder / "tokenizer.model", model.bytes());
  }
  void TearDown() override { fs::remove_all(folder); }
  void write(const char* name, const Json& json) { write_text(folder / name, json.dump()); }
  std::unique_ptr<Tokenizer> read() { return tokenizer_from_folder(folder.string()); }
  std::string problem() {
    try {
      read();
    } catch (const FormatError& error) { return error.what(); }
    return "accepted";
  }
  // ctest runs the tests side by side.
  const fs::path folder =
      fs::path(testing::TempDir()) / ("retort-folder-with-model-" + std::to_string(::getpid()));
};

TEST_F(FolderWithModel, TakesTheTokensOfAddedTokensJson) {
  write("added_tokens.json", {{"<|im_end|>", 8}, {"<tool>", 9}});  // 7 is nobody's
  write("special_tokens_map.json", {{"eos_token", {{"content", "<|im_end|>"}}}, {"pad_token", "</s>"}});
  const auto tokenizer = read();
  EXPECT_EQ(tokenizer->size(), 10);
  EXPECT_EQ(tokenizer->holes(), std::vector<int32_t>{7});
  EXPECT_EQ(tokenizer->eos, 8);
  EXPECT_EQ(tokenizer->bos, 1);
  EXPECT_EQ(tokenizer->pad, 2);
  // 6: the space before a text, which SentencePiece puts between added tokens too.
  EXPECT_TRUE(tokenizer->is_special(8));
  EXPECT_FALSE(tokenizer->is_special(9));
  EXPECT_EQ(tokenizer->encode("ab<tool>b<|im_end|>", Specials::as_tokens),
            (std::vector<int32_t>{6, 5, 9, 6, 4, 8}));
  EXPECT_EQ(tokenizer->encode("ab<tool>b"), (std::vector<int32_t>{6, 5, 9, 6, 4}));
  EXPECT_EQ(tokenizer->decode(std::vector<int32_t>{5, 9, 4, 8}, true), "ab<tool>b");
}

TEST_F(FolderWithModel, TakesTheDecoderOfTokenizerConfigJson) {
  write("tokenizer_config.json", {{"add_bos_token", false},
                                  {"eos_token", "</s>"},
                                  {"added_tokens_decoder",
                                   {{"1", {{"content", "<s>"}, {"special", true}}},
                                    {"7", {{"content", "[note]"}, {"special", true}, {"rstrip", true}}}}}});
  const auto tokenizer = read();
  EXPECT_EQ(tokenizer->size(), 8);
  EXPECT_TRUE(tokenizer->is_special(7));
  EXPECT_FALSE(tokenizer->add_bos);
  EXPECT_EQ(tokenizer->eos, 2);
  EXPECT_EQ(tokenizer->encode("a[note] b", Specials::as_tokens), (std::vector<int32_t>{6, 3, 7, 6, 4}));
}

TEST_F(FolderWithModel, RefusesWhatDoesNotBelongToTheModel) {
  write("added_tokens.json", {{"<tool>", 5}});
  EXPECT_NE(problem().find("token 5: is 'ab' here and '<tool>' in the folder's list"), std::string::npos)
      << problem();
  write("added_tokens.json", {{"<tool>", 3'000'000}});
  EXPECT_NE(problem().find("far behind the model's 7"), std::string::npos) << problem();
  write("added_tokens.json", {{"<tool>", "8"}});
  EXPECT_NE(problem().find("its id is not a whole number"), std::string::npos) << problem();
  write("added_tokens.json", {{"<tool>", 7}, {"ab", 8}});
  EXPECT_NE(problem().find("is also token"), std::string::npos) << problem();
}

}  // namespace
}  // namespace retort
