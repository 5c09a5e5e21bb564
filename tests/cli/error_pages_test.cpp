// Errors whose one line is not enough: each page is found by its message, and docs/errors.md is what the
// program prints.
#include "recipe/error_pages.h"

#include "cli/run_program.h"

namespace retort {

namespace {

namespace fs = std::filesystem;

const fs::path kRoot = source_dir();

}  // namespace

TEST(ErrorPages, AreFoundByTheMessageAndByWordsOfIt) {
  const auto pasted = explain_error(
      "retort: model/model.safetensors: model.norm.weight: its data lies outside the file's 71032 bytes; is "
      "the "
      "download complete?");
  EXPECT_EQ(pasted.rfind("## E8: A file that is not whole\n", 0), 0U) << pasted;
  EXPECT_EQ(pasted.find("##", 2), std::string::npos) << pasted;  // and nothing else
  const auto words = explain_error("LFS pull");
  EXPECT_NE(words.find("## E9: A pointer instead of weights\n"), std::string::npos) << words;
  EXPECT_NE(explain_error("").find("A key that retort does not have"), std::string::npos);
  EXPECT_THROW(explain_error("zebra"), RecipeError);
}

TEST(ErrorPages, AreFoundByTheNumberBehindTheMessage) {
  const auto page = explain_error("E8");
  EXPECT_EQ(page.rfind("## E8: A file that is not whole\n", 0), 0U) << page;
  EXPECT_EQ(page.find("##", 2), std::string::npos) << page;
  EXPECT_EQ(explain_error("e8"), page);
  EXPECT_THROW(explain_error("E999"), RecipeError);
  EXPECT_TRUE(is_error_number("E12"));
  for (const auto* word : {"", "E", "12", "eval", "E1x"}) EXPECT_FALSE(is_error_number(word)) << word;
  EXPECT_EQ(retort("explain E8").out, page);
}

TEST(ErrorPages, NumbersStandBehindTheLinesThatHaveAPage) {
  EXPECT_EQ(with_error_numbers("r.yaml:2:1: stepz: unknown key; did you mean 'steps'?"),
            "r.yaml:2:1: stepz: unknown key; did you mean 'steps'? [E1]");
  EXPECT_EQ(with_error_numbers("a: unknown key; b\nc: expected d\ne: f holds a number that is not finite\n"),
            "a: unknown key; b [E1]\nc: expected d\ne: f holds a number that is not finite [E17]\n");
  EXPECT_EQ(with_error_numbers("no.txt: no such file"), "no.txt: no such file");
  EXPECT_EQ(with_error_numbers(""), "");
  const auto said = retort("generate -m none.gguf hi").err;
  EXPECT_TRUE(said.ends_with(" [E7]\n")) << said;
}

// A message that was reworded would no longer lead to its page.
TEST(ErrorPages, HoldWordsThatMessagesHave) {
  std::string sources;
  for (const auto& entry : fs::recursive_directory_iterator(kRoot / "src"))
    if (entry.path().extension() == ".cpp" && entry.path().filename() != "error_pages.cpp")
      sources += read_text(entry.path());
  for (const auto& words : error_page_words())
    EXPECT_NE(sources.find(words), std::string::npos) << "no message holds: " << words;
}

// Refresh with: build/dev/retort explain error --markdown > docs/errors.md
TEST(ErrorPages, TheDocumentIsWhatTheProgramPrints) {
  EXPECT_TRUE(read_text(kRoot / "docs/errors.md") == error_pages())
      << "run: retort explain error --markdown > docs/errors.md";
  EXPECT_EQ(retort("explain error --markdown").out, error_pages());
  const auto found = retort("explain error is a Git LFS pointer");
  EXPECT_EQ(found.exit, 0) << found.err;
  EXPECT_EQ(found.out, explain_error("is a Git LFS pointer"));
  const auto none = retort("explain error zebra");
  EXPECT_EQ(none.exit, 2);
  EXPECT_EQ(none.err,
            "retort: explain error: no page holds 'zebra'; `retort explain error` lists the pages\n");
}

}  // namespace retort
