// The medical recipe itself from outside, two steps of it: every artefact reopened, the record complete,
// stopped in each stage.
#include <signal.h>
#include <sys/stat.h>

#include <map>
#include <set>
#include <sstream>

#include "base/hash.h"
#include "base/json.h"
#include "report/manifest.h"
#include "report/metrics.h"
#include "run_program.h"
#include "where.h"  // tests

namespace retort {

namespace {

namespace fs = std::filesystem;

const fs::path kRoot = source_dir();
constexpr const char* kSmall =
    "recipes/medical-icd10-qlora.yaml train.steps=2 train.batch.samples=4 train.checkpoint.every=1 "
    "data.sources.0.limit=48 data.held_out.count=6 "
    "eval.tasks.0.max_tokens=3 model.compute=f32 export.gguf=[Q4_0] export.gguf_adapter=true "
    "export.compare_samples=3 gate=[]";

bool inputs_are_here() {
  return fs::exists(kRoot / "checkpoints/smollm2-135m-instruct-q4_1.gguf") &&
         fs::exists(kRoot / "third_party/inputs/icd10/simple_icd_10_cm");
}

// One whole run for all tests of this file, watched by strace where that is possible.
struct Reference {
  fs::path folder = fs::temp_directory_path() / fmt::format("retort_run_{}", getpid());
  fs::path run = folder / "a", trace = folder / "trace.txt";
  Result result;
  bool traced = false;
  Reference() {
    fs::create_directories(folder);
    traced =
        std::system(
            fmt::format("strace -f -qq -o '{}' true 2>/dev/null", (folder / "probe").string()).c_str()) == 0;
    const auto before =
        traced
            ? fmt::format("strace --seccomp-bpf -f -qq -e trace=open,openat,socket -o '{}'", trace.string())
            : "";
    result = retort(fmt::format("{} run.folder={}", kSmall, run.string()), before, "run");
  }
  ~Reference() { fs::remove_all(folder); }
};
Reference& reference() {
  static Reference the_reference;
  return the_reference;
}

class RecipeRun : public testing::Test {
 protected:
  void SetUp() override {
    if (!inputs_are_here()) GTEST_SKIP() << "the inputs of the recipe are absent: run tools/setup inputs";
  }
};

// What a rerun must give again: everything but times, and the files that hold times.
std::map<std::string, std::string> lasting_files(const fs::path& run) {
  std::map<std::string, std::string> hashes;
  for (const auto& entry : fs::recursive_directory_iterator(run)) {
    const auto name = entry.path().lexically_relative(run).string();
    const bool timed = name == "stages.json" || name == "report.html" || name == "manifest.json" ||
                       name == "speed.jsonl" || name == "ledger.jsonl" || name.starts_with("dossier.") ||
                       name.starts_with("tensorboard") || name.starts_with("checkpoints") ||
                       name == "recipe.yaml" || name.ends_with(".lock");  // recipe.yaml names the folder
    if (entry.is_regular_file() && !timed) hashes[name] = sha256_file(entry.path());
  }
  return hashes;
}

// Runs until a line of standard error contains `mark`, then sends `signal`.
Result stopped_at(const std::string& arguments, const std::string& mark) {
  int pipes[2];
  EXPECT_EQ(pipe(pipes), 0);
  const auto child = fork();
  if (child == 0) {
    dup2(pipes[1], STDERR_FILENO);
    close(pipes[0]);
    if (chdir(source_dir()) != 0) _exit(99);
    const auto command = fmt::format("exec '{}/retort' run {} >/dev/null", binary_dir(), arguments);
    execl("/bin/sh", "sh", "-c", command.c_str(), nullptr);
    _exit(98);
  }
  close(pipes[1]);
  Result result;
  bool sent = false;
  char buffer[512];
  for (ssize_t count; (count = read(pipes[0], buffer, sizeof buffer)) > 0;) {
    result.err.append(buffer, static_cast<size_t>(count));
    if (!sent && result.err.find(mark) != std::string::npos) {
      kill(child, SIGTERM);
      sent = true;
    }
  }
  close(pipes[0]);
  int status = 0;
  waitpid(child, &status, 0);
  result.exit = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  return result;
}

void flip_byte(const fs::path& file, size_t at) {
  auto text = read_text(file);
  text[at] = static_cast<char>(text[at] ^ 1);
  std::ofstream(file, std::ios::binary) << text;
}

}  // namespace

TEST_F(RecipeRun, DoesEveryStageAndSaysWhatItCameTo) {
  const auto& [folder, run, trace, result, traced] = reference();
  ASSERT_EQ(result.exit, 0) << result.err;
  for (const char* file :
       {"recipe.yaml", "report.html", "manifest.json", "metrics.jsonl", "trained.safetensors", "tokens.h5",
        "eval/base.json", "eval/tuned.json", "eval/Q4_0.json", "export/adapter/adapter_config.json",
        "export/adapter/adapter_model.safetensors", "export/adapter.gguf", "export/merged/config.json",
        "export/merged/model.safetensors", "export/merged/tokenizer.json", "export/model-Q4_0.gguf",
        "export/model-Q4_0.Modelfile"}) {
    EXPECT_TRUE(fs::is_regular_file(run / file)) << file;
  }
  for (const char* row : {"\nbase ", "\ntuned ", "\nexport/adapter ", "\nexport/adapter.gguf ",
                          "\nexport/merged ", "\nexport/model-Q4_0.gguf "})
    EXPECT_NE(("\n" + result.out).find(row), std::string::npos) << result.out;
  EXPECT_NE(result.out.find("from the command to the first step: "), std::string::npos);
  struct stat status {};
  ASSERT_EQ(stat(run.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0700u);  // it holds texts of samples
  EXPECT_EQ(read_metrics(run / "metrics.jsonl").back().step, 2);
}

// Both files of the adapter hold the same numbers. Two steps change few words; the same update fifty times
// over changes many.
TEST_F(RecipeRun, GeneratesWithTheAdapterThatItWrote) {
  ASSERT_EQ(reference().result.exit, 0);
  const auto answer = [](const fs::path& adapter) {
    const auto result = retort(
        "generate -m checkpoints/smollm2-135m-instruct-q4_1.gguf --compute f32 --max-tokens 12 --jsonl "
        "'Cholera' 'Malignant neoplasm of lip' --adapter " +
        adapter.string());
    EXPECT_EQ(result.exit, 0) << result.err;
    return result.out;
  };
  const auto exports = reference().run / "export", strong = reference().folder / "strong";
  const auto tuned = answer(exports / "adapter");
  EXPECT_EQ(tuned, answer(exports / "adapter.gguf"));
  fs::copy(exports / "adapter", strong);
  auto config = read_json(strong / "adapter_config.json");
  config["lora_alpha"] = 50 * config.at("lora_alpha").get<double>();
  std::ofstream(strong / "adapter_config.json") << config;
  EXPECT_NE(tuned, answer(strong));
  expect_one_line(
      retort("generate -m checkpoints/smollm2-135m-instruct-q4_1.gguf hi --adapter " + exports.string()), 2,
      "retort: " + exports.string() + ": holds no adapter_config.json; is it a PEFT adapter?");
}

// Adapters are the same numbers; a file in bf16 is near, one in four bits further away.
TEST_F(RecipeRun, ExportsReadBackAreTheTrainedModel) {
  ASSERT_EQ(reference().result.exit, 0);
  const auto stages = read_json(reference().run / "stages.json").at("stages");
  const auto kl = [&](const char* name) {
    return stages.at(std::string("compare ") + name).at("values").at("agreement").at("kl_nats").get<double>();
  };
  EXPECT_LE(kl("adapter"), 1e-9);
  EXPECT_LE(kl("gguf adapter"), 1e-9);
  EXPECT_LT(kl("merged"), 2e-3);
  EXPECT_GT(kl("Q4_0"), kl("merged"));
  EXPECT_LT(kl("Q4_0"), 0.5);
  for (const char* name : {"adapter", "gguf adapter", "merged", "Q4_0"}) {
    const auto values = stages.at(std::string("compare ") + name).at("values");
    EXPECT_EQ(values.at("prompts"), 6) << name;
    EXPECT_EQ(values.at("equal_prompts"), 6) << name;
  }
}

// strace's list of files is the record, and no socket to the internet is opened.
TEST_F(RecipeRun, TheManifestNamesEveryFileThatWasRead) {
  ASSERT_EQ(reference().result.exit, 0);
  if (!reference().traced) GTEST_SKIP() << "strace cannot run here";
  std::set<std::string> recorded;
  for (const auto& record : read_manifest(reference().run).read) recorded.insert(record.path);
  std::istringstream lines(read_text(reference().trace));
  int seen = 0;
  for (std::string line; std::getline(lines, line);) {
    EXPECT_EQ(line.find("AF_INET"), std::string::npos) << line;
    const auto begin = line.find('"');
    if (line.find("O_RDONLY") == std::string::npos || line.find(" = -1 ") != std::string::npos ||
        begin == std::string::npos || line.find("O_DIRECTORY") != std::string::npos)
      continue;
    const fs::path path = line.substr(begin + 1, line.find('"', begin + 1) - begin - 1);
    const auto absolute = (path.is_absolute() ? path : kRoot / path).lexically_normal();
    const auto text = absolute.string();
    const bool of_the_system = text.starts_with("/proc/") || text.starts_with("/sys/") ||
                               text.starts_with("/etc/") || text.starts_with("/lib") ||
                               text.starts_with("/usr/") || text.starts_with("/dev/") ||
                               text.find(".so") != std::string::npos;
    if (of_the_system || !fs::is_regular_file(absolute) || text.starts_with(reference().run.string()))
      continue;
    if (absolute == kRoot / "recipes/medical-icd10-qlora.yaml" || recorded.count(text)) ++seen;
    else ADD_FAILURE() << text << " was read and is not in the manifest";
  }
  EXPECT_GE(seen, 2);  // the model and the code list
}

TEST_F(RecipeRun, VerifyNamesAFlippedByteAnAddedAndADeletedFileAndTheNextRunRepairs) {
  ASSERT_EQ(reference().result.exit, 0);
  const auto run = reference().run;
  retort(fmt::format("{} run.folder={}", kSmall, run.string()), "", "run");
  ASSERT_EQ(retort("verify '" + run.string() + "'").exit, 0);
  const auto good = lasting_files(run);
  flip_byte(run / "export/model-Q4_0.gguf", fs::file_size(run / "export/model-Q4_0.gguf") / 2);
  fs::remove(run / "export/adapter/adapter_config.json");
  std::ofstream(run / "export/added.txt") << "x";
  const auto bad = retort("verify '" + run.string() + "'");
  EXPECT_EQ(bad.exit, 2);
  EXPECT_NE(bad.out.find("export/model-Q4_0.gguf: modified"), std::string::npos) << bad.out;
  EXPECT_NE(bad.out.find("export/adapter/adapter_config.json: missing"), std::string::npos) << bad.out;
  EXPECT_NE(bad.out.find("export/added.txt: added"), std::string::npos) << bad.out;
  fs::remove(run / "export/added.txt");
  const auto again = retort(fmt::format("{} run.folder={}", kSmall, run.string()), "", "run");
  EXPECT_EQ(again.exit, 0) << again.err;
  EXPECT_EQ(lasting_files(run), good);
  EXPECT_EQ(retort("verify '" + run.string() + "'").exit, 0);
}

TEST_F(RecipeRun, ATermInEachStageExitsSeventyFiveAndTheSameCommandEndsWithTheSameBytes) {
  ASSERT_EQ(reference().result.exit, 0);
  const auto run = reference().folder / "b";
  const auto command = fmt::format("{} run.folder={}", kSmall, run.string());
  for (const char* mark :
       {"base         evaluating", "train  1/2", "tuned        evaluating",
        "export       export/adapter.gguf", "merged       evaluating", "Q4_0         evaluating"}) {
    const auto stopped = stopped_at(command, mark);
    EXPECT_EQ(stopped.exit, 75) << mark << "\n" << stopped.err;
    EXPECT_NE(stopped.err.find("the same command continues"), std::string::npos) << stopped.err;
  }
  const auto last = retort(command, "", "run");
  ASSERT_EQ(last.exit, 0) << last.err;
  EXPECT_EQ(lasting_files(run), lasting_files(reference().run));
}

TEST_F(RecipeRun, BadRecipesExitTwoAndWriteNothing) {
  const auto folder = fs::temp_directory_path() / fmt::format("retort_run_bad_{}", getpid());
  for (const auto& [change, message] :
       {std::pair<std::string, std::string>("data.template=chatmml", "chatmml"),
        {"model.path=no/such.gguf", "model.path: no/such.gguf: no such file or folder; expected a .gguf"},
        {"'gate=[{metric: completion.exact, at_least: 1}]'", "did you mean"},
        {"export.gguf=[Q4_9]", "expected"}}) {
    const auto result =
        retort(fmt::format("{} {} run.folder={}", kSmall, change, folder.string()), "", "run");
    EXPECT_EQ(result.exit, 2) << change << result.err;
    EXPECT_NE(result.err.find(message), std::string::npos) << result.err;
    EXPECT_FALSE(fs::exists(folder)) << change;
  }
}

TEST_F(RecipeRun, ExportNeedsATrainedRun) {
  const auto folder = fs::temp_directory_path() / fmt::format("retort_run_untrained_{}", getpid());
  const auto result = retort(fmt::format("{} run.folder={}", kSmall, folder.string()), "", "export");
  EXPECT_EQ(result.exit, 2);
  EXPECT_NE(result.err.find("`retort train recipes/medical-icd10-qlora.yaml` does that"), std::string::npos)
      << result.err;
  fs::remove_all(folder);
}

// The tuned model as `retort eval` finds it in the adapter folder has the scores of the run.
TEST_F(RecipeRun, EvalOfTheAdapterGivesTheScoresOfTheRun) {
  ASSERT_EQ(reference().result.exit, 0);
  const auto json = reference().folder / "adapter.json";
  const auto result = retort(fmt::format("{} --adapter '{}' --json '{}'", kSmall,
                                         (reference().run / "export/adapter").string(), json.string()),
                             "", "eval");
  ASSERT_EQ(result.exit, 0) << result.err;
  EXPECT_EQ(read_json(json).front(), read_json(reference().run / "eval/tuned.json"));
}

}  // namespace retort
