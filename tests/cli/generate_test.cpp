// `retort generate` from outside.
#include <gtest/gtest.h>

#include "base/json.h"
#include "cli/run_program.h"
#include "where.h"  // tests

namespace retort {

namespace {

constexpr const char* kModel = "checkpoints/smollm2-135m-instruct-q4_1.gguf";
constexpr const char* kNoSuchModel =
    "retort: no.gguf: no such file or folder; expected a .gguf file, or a folder with config.json and "
    "*.safetensors, on this machine (nothing is downloaded) [E7]";
#define NEEDS_MODEL()                                                         \
  if (!std::filesystem::exists(std::filesystem::path(source_dir()) / kModel)) \
  GTEST_SKIP() << kModel << " is absent: run tools/setup"

}  // namespace

TEST(Generate, BadCommandLinesExitTwoBeforeAnythingIsLoaded) {
  expect_one_line(retort("generate hi"), 2,
                  "retort: --model is required; `retort generate --help` shows what it takes");
  expect_one_line(retort("generate -m no.gguf hi"), 2, kNoSuchModel);
  expect_one_line(retort("generate -m no.gguf hi --top-k -3"), 2,
                  "retort: --top-k: expected a whole number of at least 0, found '-3'; `retort generate "
                  "--help` shows what it takes");
  expect_one_line(retort("generate -m no.gguf hi --temperature warm"), 2,
                  "retort: --temperature: expected a number from 0 to 100, found 'warm'; `retort generate "
                  "--help` shows what it takes");
  expect_one_line(retort("generate -m no.gguf --raw --system x hi"), 2, kNoSuchModel);
  const auto home = retort("generate -m '~/no.gguf' hi").err;
  EXPECT_NE(home.find("(nothing is downloaded; ~ and ${VAR} are not expanded)"), std::string::npos) << home;
  expect_one_line(retort("generate -m no.gguf --chat hi"), 2,
                  "retort: --chat: prompts, --file, --raw, --jsonl and --answers do not go with it");
  expect_one_line(retort("generate -m no.gguf --file no.txt"), 2,
                  "retort: no.txt: cannot be opened: No such file or directory");
  expect_one_line(retort("generate -m no.gguf < /dev/null"), 2,
                  "retort: standard input: holds no prompt; expected one a line");
}

TEST(Generate, AnswersInOrderAsJson) {
  NEEDS_MODEL();
  const auto result =
      retort(std::string("generate -m ") + kModel +
             " 'Name a fruit.' 'Name a colour.' --answers 2 --jsonl --max-tokens 4 --temperature 0.7");
  ASSERT_EQ(result.exit, 0) << result.err;
  std::vector<std::string> places;
  std::istringstream lines(result.out);
  for (std::string line; std::getline(lines, line);) {
    const auto json = parse_json(line, "output");
    places.push_back(json.at("place"));
    EXPECT_LE(json.at("tokens").get<int>(), 4);
    EXPECT_GT(json.at("prompt_tokens").get<int>(), 10);
  }
  EXPECT_EQ(places, (std::vector<std::string>{"argument 1", "argument 1", "argument 2", "argument 2"}));
  const auto full = retort(std::string("generate -m ") + kModel + " hi --max-tokens 2 > /dev/full");
  expect_one_line(full, 3, "retort: standard output: No space left on device");
}

TEST(Generate, AModelThatIsReadLayerByLayerAnswersTheSame) {
  NEEDS_MODEL();
  const auto command = std::string("generate -m ") + kModel +
                       " 'Name a fruit.' 'Name a colour.' --max-tokens 4 --jsonl --compute f32";
  const auto resident = retort(command), streamed = retort(command + " --schedule layers --memory 16MiB");
  ASSERT_EQ(streamed.exit, 0) << streamed.err;
  EXPECT_EQ(streamed.out, resident.out);
  EXPECT_NE(streamed.err.find("layer by layer: "), std::string::npos) << streamed.err;
  EXPECT_NE(streamed.err.find("MB of matrices are read for each token of up to 2 answers together: "),
            std::string::npos)
      << streamed.err;
}

TEST(Generate, AChatReadsCommandsAndSavesTheConversation) {
  NEEDS_MODEL();
  Folder folder;
  const auto input = folder.write(
      "input", "Hello\n/nope\n/save " + (folder.path / "talk.jsonl").string() + "\n/exit\nnever read\n");
  const auto result =
      retort(std::string("generate -m ") + kModel + " --chat --max-tokens 4 < '" + input + "'");
  EXPECT_EQ(result.exit, 0);
  EXPECT_EQ(result.err, "'/nope' is no command; /help lists them\n");
  EXPECT_NE(result.out.find("2 messages in "), std::string::npos) << result.out;
  const auto saved = read_json(folder.path / "talk.jsonl").at("messages");
  EXPECT_EQ(saved[0].at("content"), "Hello");
  EXPECT_EQ(result.out.find(saved[1].at("content").get<std::string>() + "\n"), 0u) << result.out;
}

}  // namespace retort
