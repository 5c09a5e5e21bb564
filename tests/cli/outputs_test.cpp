// What the program does when nobody can hear it, and where a run may not begin.
#include <unistd.h>

#include <algorithm>
#include <cstdlib>

#include "run_program.h"
#include "where.h"  // tests

namespace retort {

namespace fs = std::filesystem;

// Exit codes of `retort COMMAND` with redirections of the shell's; -1 for a signal.
int exit_of(const std::string& shell) {
  const auto status = std::system(
      fmt::format("cd '{}' && RETORT='{}/retort' bash -c '{}'", source_dir(), binary_dir(), shell).c_str());
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TEST(Outputs, AnErrorThatNobodyReadsKeepsItsExitCode) {
  EXPECT_EQ(exit_of("$RETORT verify /absent 2>/dev/full"), 2);
  EXPECT_EQ(exit_of("$RETORT verify /absent 2>&-"), 2);
  EXPECT_EQ(exit_of("$RETORT verify /absent 2> >(exec true)"), 2);
  EXPECT_EQ(exit_of("$RETORT verify /absent >&- 2>&- <&-"), 2);
}

TEST(Outputs, AnAnswerThatCannotBeWrittenIsTheMachinesFailure) {
  EXPECT_EQ(exit_of("$RETORT explain train >/dev/full 2>/dev/null"), 3);
  EXPECT_EQ(exit_of("$RETORT explain train >&- 2>/dev/null"), 3);
}

TEST(Outputs, AShellsSmallStackIsEnough) {
  EXPECT_EQ(exit_of("ulimit -s 64; $RETORT explain train >/dev/null"), 0);
  EXPECT_EQ(exit_of("ulimit -s 64; $RETORT verify /absent 2>/dev/null"), 2);
}

TEST(Outputs, ARunBesideFilesOfTheUsersIsRefusedInOneLine) {
  Folder folder;
  const auto home = folder.path / "home";
  fs::create_directories(home / "archive.part-2024");
  for (const auto* name : {"train.part-0001.jsonl", "archive.part-2024/thesis.txt", "recipe.yaml"})
    folder.write(std::string("home/") + name, name);
  const auto recipe = folder.write(
      "r.yaml", fmt::format("model: {{path: absent.gguf}}\ndata: {{sources: [{{path: absent.jsonl}}]}}\n"
                            "run: {{folder: {}}}\n",
                            home.string()));
  for (const auto* command : {"run", "check"}) {
    const auto result = retort("'" + recipe + "'", "", command);
    EXPECT_EQ(result.exit, 2) << command;
    EXPECT_TRUE(result.err.starts_with("retort: run.folder: " + home.string() +
                                       ": is neither empty nor the folder of a run (it holds "))
        << result.err;
    EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << result.err;
    expect_one_line(
        retort("'" + recipe + "' run.folder=/proc/x", "", command), 2,
        "retort: run.folder: /proc/x: cannot be made: No such file or directory; name a folder in "
        "a place where you may write");
  }
  for (const auto* name : {"train.part-0001.jsonl", "archive.part-2024/thesis.txt", "recipe.yaml"})
    EXPECT_EQ(read_text(home / name), name);
  EXPECT_FALSE(fs::exists(home / "run.lock"));
}

TEST(Outputs, ASourceThatIsNotThereIsNamedByItsKey) {
  Folder folder;
  const auto there = folder.write("a.jsonl", "{\"text\": \"a\"}\n");
  const auto recipe = folder.write(
      "r.yaml", fmt::format("model: {{path: absent.gguf}}\ndata: {{sources: [{{path: {}}}, {{path: "
                            "nope.csv}}]}}\nrun: {{folder: {}/run}}\n",
                            there, folder.path.string()));
  expect_one_line(retort("check '" + recipe + "'"), 2,
                  "retort: data.sources[1].path: nope.csv: no such file or folder (paths are relative to the "
                  "current folder)");
}

}  // namespace retort
