#include "eval/run_code.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "base/error.h"
#include "base/files.h"
#include "base/json.h"
#include "eval/code.h"
#include "where.h"  // tests

namespace retort {
namespace {

class RunCode : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!std::filesystem::exists("/usr/bin/python3")) GTEST_SKIP() << "/usr/bin/python3 is absent";
  }
  static std::string problem(const std::string& program, CodeLimits limits = {}) {
    const auto run = run_python({program}, limits)[0];
    return run.passed ? "passed" : run.problem;
  }
};

TEST_F(RunCode, CanonicalSolutionsPassAndOthersFail) {
  const auto file = std::filesystem::path(source_dir()) / "data/questions/functions.jsonl";
  const auto problems = read_code_problems(file, 0);
  std::vector<std::string> solutions;
  const auto text = read_text(file, 1 << 20);
  for (size_t begin = 0; begin < text.size();) {
    const auto end = std::min(text.find('\n', begin), text.size());
    solutions.push_back(parse_json(text.substr(begin, end - begin), "f").at("canonical_solution"));
    begin = end + 1;
  }
  std::vector<std::string> programs;
  for (size_t i = 0; i < problems.size(); ++i) programs.push_back(test_program(problems[i], solutions[i]));
  for (const auto& problem : problems) programs.push_back(test_program(problem, "    return None\n"));
  const auto runs = run_python(programs, {}, 2);
  for (size_t i = 0; i < problems.size(); ++i) {
    EXPECT_TRUE(runs[i].passed) << problems[i].task_id << ": " << runs[i].problem;
    EXPECT_FALSE(runs[problems.size() + i].passed) << problems[i].task_id;
  }
  EXPECT_EQ(runs[problems.size()].problem, "AssertionError");
}

TEST_F(RunCode, AProgramCanComputeAndNothingElse) {
  EXPECT_EQ(problem("import math, re, collections, hashlib\nassert math.sqrt(4) == 2\nprint('x' * 10**6)"),
            "passed");
  EXPECT_EQ(problem("def f(:"), "SyntaxError");
  EXPECT_EQ(problem("f = lambda n: f(n + 1)\nf(0)"), "RecursionError");
  const char* forbidden[] = {
      "open('/etc/passwd')",
      "open('/tmp/retort-was-here', 'w')",
      "import os\nos.listdir('/')",
      "import os\nos.remove('/tmp/x')",
      "import os\nos.fork()",
      "import os\nos.kill(os.getppid(), 9)",
      "import os\nos.execv('/bin/sh', ['sh', '-c', 'true'])",
      "import os\nos.system('true') == 0 or 1 / 0",
      "import _thread\n_thread.start_new_thread(print, ())",
      "import socket\nsocket.socket()",
      "import subprocess",
      "import ctypes",
  };
  for (const auto* program : forbidden) EXPECT_NE(problem(program), "passed") << program;
  EXPECT_FALSE(std::filesystem::exists("/tmp/retort-was-here"));
}

TEST_F(RunCode, OnlyAnEndWithoutAnExceptionPasses) {
  EXPECT_EQ(problem("raise SystemExit(0)"), "SystemExit");
  EXPECT_EQ(problem("import os\nos._exit(0)"), "ended without a result");
  EXPECT_EQ(problem("import os\nos.write(3, b'p')\nos._exit(0)"), "ended without a result");
  EXPECT_EQ(problem("class passed(BaseException): pass\nraise passed"),
            "passed");  // the name of its exception
  EXPECT_FALSE(run_python({"class passed(BaseException): pass\nraise passed"}, {})[0].passed);
}

TEST_F(RunCode, TimeAndMemoryEnd) {
  EXPECT_EQ(problem("while True: pass", {1, 30, uint64_t{1} << 30}), "took more than 1 s");
  EXPECT_EQ(problem("while True: pass", {60, 2, uint64_t{1} << 30}), "took more than 2 s");  // by the clock
  EXPECT_EQ(problem("x = bytearray(4 << 30)"), "MemoryError");
  EXPECT_EQ(problem("x = []\nwhile True: x.append('y' * 1000000)"), "MemoryError");
}

// 1 - C(n - c, k) / C(n, k): of 5 with 2 right, C(3,1)/C(5,1) = 3/5 and C(3,2)/C(5,2) = 3/10.
TEST(PassAt, IsTheUnbiasedEstimate) {
  EXPECT_NEAR(pass_at(5, 2, 1), 0.4, 1e-12);
  EXPECT_NEAR(pass_at(5, 2, 2), 0.7, 1e-12);
  EXPECT_EQ(pass_at(5, 2, 4), 1);
  EXPECT_EQ(pass_at(5, 0, 4), 0);
  EXPECT_EQ(pass_at(1, 1, 1), 1);
  EXPECT_NEAR(pass_at(200, 10, 100), 1 - 0.00077, 3e-4);  // C(190,100)/C(200,100) = 0.00077
}

TEST(Code, ExecutionNeedsTests) {
  try {
    require_tests({{"t/0", "def f(): pass", "", "", "x.jsonl:3"}}, "code");
    FAIL();
  } catch (const RecipeError& error) {
    EXPECT_NE(std::string(error.what()).find("x.jsonl:3: problem 't/0' has no tests"), std::string::npos)
        << error.what();
  }
}

}  // namespace
}  // namespace retort
