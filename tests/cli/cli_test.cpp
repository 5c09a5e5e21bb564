// The built program from outside: exit codes, one line an error, nothing half-written.
#include <gtest/gtest.h>

#include <algorithm>

#include "base/json.h"
#include "cli/commands.h"
#include "cli/run_program.h"
#include "report/manifest.h"
#include "where.h"  // tests

namespace retort {

namespace fs = std::filesystem;

TEST(Cli, PlanKnowsAModelByItsConfigAlone) {
  Folder folder;
  const auto config = folder.write(
      "config.json",
      R"({"model_type": "llama", "vocab_size": 128256, "hidden_size": 4096, "intermediate_size": 14336,
          "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "rms_norm_eps": 1e-5,
          "max_position_embeddings": 131072, "rope_theta": 500000.0, "tie_word_embeddings": false})");
  for (const auto& path : {config, folder.path.string()}) {
    const auto planned = retort("plan '" + path + "' --memory 4GiB --disk 2GB --gflops 500 --price 3");
    EXPECT_EQ(planned.exit, 0) << planned.err;
    EXPECT_NE(planned.out.find("8.0 G weights"), std::string::npos) << planned.out;
    EXPECT_NE(planned.out.find("13.96 GB in the layers as BF16"), std::string::npos) << planned.out;
  }
  const auto json = Json::parse(
      retort("plan '" + config + "' --memory 4GiB --disk 2GB --gflops 500 --tokens 1000 --json").out);
  EXPECT_EQ(json["layer_bytes"], 13958643712.0);
  EXPECT_EQ(json["uses"][0]["bytes_read"],
            json["layer_bytes"].get<double>() + json["outside_bytes"].get<double>());
  expect_one_line(retort("plan '" + config + "' --memory 3"), 2,
                  "retort: --memory: '3' is no size; expected a number with a unit, like 16GiB");
  const auto sparse = retort(
      "plan '" + (fs::path(source_dir()) / "tests/golden/models/deepseek_v32").string() + "' --disk 2GB");
  EXPECT_EQ(sparse.exit, 0) << sparse.err;  // texts of 4096 tokens, of which each attends to 512
  expect_one_line(retort("plan no/such"), 2,
                  "retort: no/such: there is no such file; expected a config.json, a folder that holds one, "
                  "or a model whose "
                  "shape is written down here: deepseek-v3, deepseek-v3.2");
}

TEST(Cli, PlanDividesATrainingAmongMachines) {
  Folder folder;
  const auto config =
      folder.write("config.json",
                   R"({"model_type": "llama", "vocab_size": 1000, "hidden_size": 64, "intermediate_size": 128,
          "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 4, "rms_norm_eps": 1e-5,
          "max_position_embeddings": 4096, "rope_theta": 10000.0, "tie_word_embeddings": true})");
  const auto machines =
      folder.write("machines.yaml",
                   "machines:\n"
                   "  - {name: node, count: 4, threads: 2, memory: 4GiB, link_gbit: 8, latency_us: 0, "
                   "copy_gbytes: 1}\n");
  const auto of = [&](const std::string& more) {
    return "plan '" + config + "' --length 512 --step-tokens 4096 --gflops 1 " + more;
  };
  const auto planned = retort(of("--machines '" + machines + "' --ranks 1"));
  EXPECT_EQ(planned.exit, 0) << planned.err;
  for (const char* text :
       {"each with 2 threads; a step of 8 forests", "planned      4 ranks on 4 machines: a step in",
        "\nnode-1 ", "\nnode-4 ", "\nbest         "})
    EXPECT_NE(planned.out.find(text), std::string::npos) << text << "\n" << planned.out;
  const auto json = parse_json(retort(of("--machines '" + machines + "' --ranks 1 --json")).out, "output");
  const auto& ranks = json.at("ranks");
  // A matrix of m x n has 16 x (m + n): four of 64 x 64 and three of 64 x 128, in two layers.
  EXPECT_EQ(ranks.at("trainable_elements"), 2 * 16 * (4 * 128 + 3 * 192));
  const auto message = ranks.at("message_bytes").get<double>();
  EXPECT_EQ(message, 4.0 * 2 * 16 * (4 * 128 + 3 * 192));
  const auto& four = ranks.at("planned");
  EXPECT_EQ(four.at("ranks"), 4);
  EXPECT_EQ(four.at("moved_bytes"), 6 * message);
  EXPECT_EQ(four.at("machines").size(), 4u);
  EXPECT_EQ(four.at("machines")[0].at("sent_bytes"), message);
  EXPECT_EQ(ranks.at("first_machines").size(), 3u);
  EXPECT_LE(ranks.at("best").at("step_seconds"), four.at("step_seconds"));
  // --threads 1: two ranks fit a machine.
  const auto free =
      parse_json(retort(of("--machines '" + machines + "' --threads 1 --json")).out, "output").at("ranks");
  EXPECT_TRUE(free.at("planned").is_null());
  EXPECT_EQ(free.at("best").at("ranks"), 8);

  const auto here = retort(of("--ranks 2 --threads 1"));
  EXPECT_NE(here.out.find("planned      2 ranks on 1 machine"), std::string::npos) << here.out << here.err;
  expect_one_line(
      retort(of("--machines '" + machines + "' --threads 3")), 2,
      "retort: " + machines +
          ": no machine has the 3 threads of a rank, the largest has 2; lower the threads of a rank "
          "(train.threads, `retort plan --threads`), or write `ranks`");
  const auto wrong = folder.write("wrong.yaml", "machines:\n  - {name: a, threads: 0, memory: 4GiB}\n");
  const auto refused = retort(of("--machines '" + wrong + "'"));
  EXPECT_EQ(refused.exit, 2);
  EXPECT_NE(refused.err.find("wrong.yaml:2:24: machines[0].threads: expected a whole number from 1 to 4096"),
            std::string::npos)
      << refused.err;
  EXPECT_EQ(retort(of("--machines no/such.yaml")).exit, 2);
  EXPECT_EQ(retort(of("--ranks 0")).exit, 2);
}

TEST(Cli, AKernelIsTakenByNameAndOneThatIsNotHereIsRefused) {
  const auto refused = retort("plan deepseek-v3", "RETORT_KERNEL=nothing");
  EXPECT_EQ(refused.exit, 2);
  EXPECT_TRUE(refused.err.starts_with("retort: RETORT_KERNEL: this machine has no 'nothing'; it has "))
      << refused.err;
  EXPECT_TRUE(refused.err.ends_with("portable\n")) << refused.err;
  EXPECT_EQ(retort("plan deepseek-v3", "RETORT_KERNEL=portable").exit, 0);
}

TEST(Cli, BadCommandLinesExitTwoWithOneLine) {
  expect_one_line(retort(""), 2, "retort: A subcommand is required; `retort --help` shows what it takes");
  expect_one_line(
      retort("inspcet x"), 2,
      "retort: 'inspcet' is no command; did you mean 'inspect'?; `retort --help` shows what it takes");
  expect_one_line(retort("inspect"), 2,
                  "retort: path is required; `retort inspect --help` shows what it takes");
  expect_one_line(retort("explain model.pahts"), 2,
                  "retort: explain: 'model.pahts' is no key of a recipe; did you mean 'model.path'?");
  expect_one_line(retort("completion tcsh"), 2,
                  "retort: completion: expected bash, zsh or fish, found 'tcsh'");
  const auto extra = retort("schema extra");
  EXPECT_EQ(extra.exit, 2);
  EXPECT_EQ(std::count(extra.err.begin(), extra.err.end(), '\n'), 1) << extra.err;
}

TEST(Cli, MissingAndBrokenFilesExitTwoWithOneLine) {
  Folder folder;
  const auto missing = retort("inspect no/such/file.gguf");
  EXPECT_EQ(missing.exit, 2);
  EXPECT_EQ(missing.err.find("retort: no/such/file.gguf: "), 0u) << missing.err;
  EXPECT_EQ(std::count(missing.err.begin(), missing.err.end(), '\n'), 1) << missing.err;
  for (const auto& [name, content] : {std::pair<std::string, std::string>("a.gguf", "GGUF"),
                                      {"b.safetensors", std::string(8, '\xFF')},
                                      {"c.gguf", ""},
                                      {"d.bin", "PK\x03\x04"}}) {
    const auto result = retort("inspect '" + folder.write(name, content) + "'");
    EXPECT_EQ(result.exit, 2) << name;
    EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << result.err;
    EXPECT_EQ(result.err.find("retort: "), 0u) << result.err;
  }
}

TEST(Cli, ExplainsAndWritesTheSchema) {
  const auto text = retort("explain model.weights");
  EXPECT_EQ(text.exit, 0);
  EXPECT_NE(text.out.find("one of keep, f32"), std::string::npos);
  EXPECT_EQ(retort("schema").out, read_text(fs::path(source_dir()) / "configs/recipe.schema.json"));
  EXPECT_EQ(retort("explain --markdown").out, read_text(fs::path(source_dir()) / "docs/recipe-reference.md"));
}

// A full disk: /dev/full takes nothing.
TEST(Cli, AFullStandardOutputIsAnError) {
  const auto result = retort("schema > /dev/full");
  EXPECT_EQ(result.exit, 3);
  EXPECT_TRUE(result.err.starts_with("retort: ") && result.err.ends_with(": No space left on device\n"))
      << result.err;  // fmt words the middle
  EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << result.err;
}

TEST(Cli, VerifyNamesWhatChanged) {
  Folder run;
  run.write("a.txt", "one");
  run.write("b.txt", "two");
  write_manifest(run.path, {}, "recipe");
  const auto good = retort("verify '" + run.path.string() + "'");
  EXPECT_EQ(good.exit, 0);
  EXPECT_EQ(good.out, run.path.string() + ": 0 files read and 2 files written are as recorded\n" +
                          "there is no ledger: an earlier version of retort made this run\n");
  run.write("a.txt", "onf");
  fs::remove(run.path / "b.txt");
  run.write("c.txt", "");
  const auto bad = retort("verify '" + run.path.string() + "'");
  EXPECT_NE(bad.out.find("a.txt: modified: sha256 "), std::string::npos);
  EXPECT_NE(bad.out.find("b.txt: missing\nc.txt: added\n"), std::string::npos);
  expect_one_line(bad, 2,
                  "retort: " + run.path.string() +
                      ": 3 differences from what the run recorded of 2 files and its ledger");
}

// Completions and the man page name every command: they come from one list.
TEST(Cli, CompletionsAndManPageNameEveryCommand) {
  Action action;
  const auto app = make_app(action);
  for (const auto* command : app->get_subcommands([](const CLI::App*) { return true; })) {
    for (const char* shell : {"bash", "zsh", "fish"})
      EXPECT_NE(completion(*app, shell).find(command->get_name()), std::string::npos)
          << shell << " " << command->get_name();
    EXPECT_NE(man_page(*app).find(".SS \"retort " + command->get_name()), std::string::npos);
    EXPECT_FALSE(command->get_description().empty());
    for (const auto* option : command->get_options())
      EXPECT_FALSE(option->get_description().empty()) << command->get_name() << " " << option->get_name();
  }
}

TEST(Cli, BashReadsItsCompletion) {
  Folder folder;
  folder.write("retort.bash", retort("completion bash").out);
  const auto complete = [&](const std::string& words, int index) {
    std::string text;
    auto* pipe =
        popen(fmt::format("cd '{}' && bash --norc -c 'compopt() {{ :; }}; source retort.bash; "
                          "COMP_WORDS=({}); COMP_CWORD={}; _retort; echo \"${{COMPREPLY[*]}}\"' 2>&1",
                          folder.path.string(), words, index)
                  .c_str(),
              "r");
    char buffer[4096];
    for (size_t count; (count = fread(buffer, 1, sizeof buffer, pipe)) > 0;) text.append(buffer, count);
    pclose(pipe);
    return text;
  };
  EXPECT_EQ(complete("retort insp", 1), "inspect\n");
  EXPECT_EQ(complete("retort inspect --ha", 2), "--hashes\n");
  EXPECT_EQ(complete("retort run r.yaml train.optimizer.lea", 3), "train.optimizer.learning_rate=\n");
  // Values: = ends a word, or does not where COMP_WORDBREAKS lacks it.
  EXPECT_EQ(complete("retort run r.yaml adapter.kind = do", 5), "dora\n");
  EXPECT_EQ(complete("retort run r.yaml adapter.kind=do", 3), "adapter.kind=dora\n");
  EXPECT_EQ(complete("retort run r.yaml train.recompute =", 4), "true false\n");
  // Entries of lists, by any index in both spellings.
  EXPECT_EQ(complete("retort run r.yaml data.sources.pat", 3), "\n");
  EXPECT_EQ(complete("retort run r.yaml data.sources.0.pa", 3), "data.sources.0.path=\n");
  EXPECT_EQ(complete("retort run r.yaml data.sources.12.pa", 3), "data.sources.12.path=\n");
  EXPECT_EQ(complete("retort run r.yaml data.sources[3].pa", 3), "data.sources.3.path=\n");
  EXPECT_EQ(complete("retort run r.yaml data.sources[3].use = he", 5), "held_out\n");
  folder.write("of.jsonl", "");
  EXPECT_EQ(complete("retort run of", 2), "of.jsonl\n");
  EXPECT_EQ(complete("retort run r.yaml model.path = of", 5), "of.jsonl\n");
}

namespace {

// What the program takes from shared libraries, as nm lists it; empty where nm (binutils) is not installed.
const std::string& imported_symbols() {
  static const std::string symbols = [] {
    std::string text;
    auto* pipe =
        popen(fmt::format("nm -D --undefined-only '{}/retort' 2>/dev/null", binary_dir()).c_str(), "r");
    char buffer[65536];
    for (size_t count; (count = fread(buffer, 1, sizeof buffer, pipe)) > 0;) text.append(buffer, count);
    pclose(pipe);
    return text;
  }();
  return symbols;
}

}  // namespace

// No network code: the program and its own objects import no socket call.
TEST(Cli, OurCodeReferencesNoSockets) {
  if (imported_symbols().empty()) GTEST_SKIP() << "nm (binutils) is not installed";
  ASSERT_NE(imported_symbols().find(" U "), std::string::npos);
  for (const char* name :
       {" socket@", " connect@", " bind@", " listen@", " accept@", " sendto@", " recvfrom@", " getaddrinfo@",
        " gethostbyname@", " system@", " popen@", " posix_spawn@", " execvp@"}) {
    EXPECT_EQ(imported_symbols().find(name), std::string::npos) << name;
  }
}

// retort starts retort-tables for Parquet and Arrow files, python3 in a confined child for what a model wrote
// and a recipe asks to run (eval.tasks.execute), and the user's own program where a recipe names one
// (eval.tasks.scored_by).
TEST(Cli, OneFileStartsAnotherProgram) {
  std::vector<std::string> found;
  const auto source = std::filesystem::path(source_dir()) / "src";
  for (const auto& entry : std::filesystem::recursive_directory_iterator(source)) {
    if (!entry.is_regular_file()) continue;
    const auto text = read_text(entry.path());
    for (const char* call :
         {"execve(", "execv(", "execl(", "execle(", "execvpe(", "fexecve(", "posix_spawn("})
      if (text.find(call) != std::string::npos)
        found.push_back(std::filesystem::relative(entry.path(), source).string());
  }
  EXPECT_EQ(found, std::vector<std::string>{"base/start_program.cpp"});
}

// A GPU's driver and LibTorch's part that uses it, for `device: cuda` (and for auto where both are there).
TEST(Cli, OneFileLoadsALibrary) {
  std::vector<std::string> found;
  const auto source = std::filesystem::path(source_dir()) / "src";
  for (const auto& entry : std::filesystem::recursive_directory_iterator(source))
    if (entry.is_regular_file() && read_text(entry.path()).find("dlopen(") != std::string::npos)
      found.push_back(std::filesystem::relative(entry.path(), source).string());
  EXPECT_EQ(found, std::vector<std::string>{"ops/device.cpp"});
}

TEST(Cli, AGpuThatIsMissingIsOneLine) {
  if (fs::exists("/dev/nvidiactl")) GTEST_SKIP() << "this machine has a GPU";
  const std::string no_driver =
      "retort: device: cuda: this machine has no NVIDIA driver (libcuda.so.1 is not found); install the "
      "driver "
      "of its GPU, or set device: cpu";
  Folder folder;
  const auto run = folder.path / "run";
  for (const std::string command : {"run", "train", "check", "eval", "teach"}) {
    SCOPED_TRACE(command);
    folder.write("recipe.yaml",
                 "model: {path: no/such.gguf}\ndevice: cuda:1\nteacher: {path: no/such.gguf}\n"
                 "distill: {}\nrun: {folder: '" +
                     run.string() +
                     "'}\n"
                     "data: {sources: [{path: no/such.jsonl}]}\neval: {tasks: [{kind: completion}]}\n");
    expect_one_line(retort(command + " '" + (folder.path / "recipe.yaml").string() + "'"), 3, no_driver);
  }
  EXPECT_FALSE(fs::exists(run));
  expect_one_line(retort("generate -m no/such.gguf --device cuda hello"), 3, no_driver);
  expect_one_line(retort("generate -m no/such.gguf --device gpu hello"), 2,
                  "retort: device: expected auto, cpu, cuda or cuda:N, found 'gpu'");
}

// What the linker looks for says it all: LD_DEBUG names every library on standard error.
TEST(Cli, OnlyDeviceCudaLooksForAGpuDriver) {
  const auto looked_for = [](const std::string& device) {
    const auto told = retort("generate -m no/such.gguf --device " + device + " hello", "LD_DEBUG=libs").err;
    EXPECT_NE(told.find("find library=libc10.so"), std::string::npos);
    return told;
  };
  if (!fs::exists("/dev/nvidiactl")) { EXPECT_EQ(looked_for("auto").find("libcuda.so"), std::string::npos); }
  const auto by_cpu = looked_for("cpu");
  EXPECT_EQ(by_cpu.find("libcuda.so"), std::string::npos);
  EXPECT_EQ(by_cpu.find("libtorch_cuda"), std::string::npos);
  EXPECT_NE(looked_for("cuda").find("find library=libcuda.so.1"), std::string::npos);
}

// A pickle is a program. Nothing here reads one: no torch::load, torch::jit, unpickler or Python (mangled
// names).
TEST(Cli, OurCodeReferencesNoPickles) {
  if (imported_symbols().empty()) GTEST_SKIP() << "nm (binutils) is not installed";
  for (const char* name : {"5torch3jit", "5torch9serialize", "5torch4load", "5torch4save", "ickle",
                           "caffe29serialize", " Py", "dlsym"}) {
    EXPECT_EQ(imported_symbols().find(name), std::string::npos) << name;
  }
}

}  // namespace retort
