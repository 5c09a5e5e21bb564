"""Hard strings for tokenizers, as bytes (some are not UTF-8).

Deterministic: written by hand, and mixed from a seed.
"""
import random

SEED = 20
# fmt: off
HAND = [
    "", " ", "  ", "   ", "\t", "\n", "\r\n", "\r", "\n\n", " \n", "\n ", "\t\t\n  \t", " \t \r\n \n\r x",
    "a  b", "a   b ", "  a", "\u00a0\u00a0x", "x\u3000y", "\u2003em\u2009thin\u200bzero", "\u0085next",
    "\u2028line\u2029para", "\x0b\x0c\x1c\x1d", "\x00", "a\x00b", "\x01\x02\x7f", "\ufeffbom",
    "\u200e\u200f\u202e", "hello", " hello", "Hello World", "hello  world", "hello\n\n\nworld",
    "hello \n world", "hello\r\nworld\r\n", "trailing   ", "trailing\n", "trailing \t\n ", "don't", "DON'T",
    "I'M", "we'Ll", "they've they'VE", "'s't're've'm'll'd", "x's y'S z'\u017f", "'", "''", "'''", " 's",
    "'sx", "it's'", "o'clock", "\u2019s", "don\u2019t", "1", "12", "123", "1234", "12345", "123456789012345",
    "3.14159", "1,000,000.00", "$1,234.56", "1e-10", "0xDEADBEEF", "2024-01-31T23:59:59Z", "٣٤٥", "१२३४",
    "½ ⅓ Ⅷ ⑩ ²³", "12ab34cd", "a1b2", "  12", "1 2 3", "\uff11\uff12\uff13", "日本語のテキスト", "これは日本語です。",
    "中文字符測試，標點。", "混合English和中文123数字", "한국어 텍스트", "ㄱㄴㄷ", "\u1112\u1161\u11ab\u1100\u116e\u11a8", "ｶﾀｶﾅ",
    "龥龦鿿", "゠ヿ゛", "𠀀𠀁𪚥", "々〆〇", "😀", "😀😃😄", "👨‍👩‍👧‍👦", "👩🏽‍💻", "🏳️‍🌈", "🇩🇪🇫🇷", "1️⃣2️⃣", "❤️‍🔥", "🧑🏿‍🤝‍🧑🏻",
    "☺️", "a😀b", " 😀 ", "\u200d", "\ufe0f", "é", "e\u0301", "E\u0301\u0302\u0303", "\u0301", "\u0301a",
    "a\u0301\u0301\u0301b", "ñ n\u0303", "Å \u212b A\u030a", "ﬁ ﬂ ﬃ",
    "Z\u0351\u036b\u0343\u036aa\u0302l\u0332g\u0334o", "\u0345\u0301", "q\u0323\u0307 q\u0307\u0323",
    "\u0958 \u0915\u093c", "\u2126 \u03a9", "\u1e9b\u0323", "مرحبا بالعالم", "اللُّغَة العَرَبِيَّة",
    "שלום עולם", "שָׁלוֹם", "नमस्ते दुनिया", "क्षत्रिय", "สวัสดีชาวโลก", "ภาษาไทย", "Привет, мир!", "ПРИВЕТ",
    "Γειά σου Κόσμε", "Türkçe İstanbul ıI", "Straße STRASSE ẞ", "Ǆ ǅ ǆ", "ʰʷ ʻokina", "ªº", "ᏣᎳᎩ", "ქართული",
    "አማርኛ", "தமிழ்", "မြန်မာ", "བོད་ཡིག", "ខ្មែរ", "<|im_start|>user\nHi<|im_end|>", "<|im_start|>",
    "<|im_start|", "im_start|>", "<|im_end|><|im_end|>", " <|im_end|> ", "x<|endoftext|>y", "<|endoftext",
    "<s>", "</s>", "<s>a</s>", " <s> ", "<unk>", "<pad>", "[INST] hi [/INST]", "[INST]", "[/INST]x",
    "<bos><eos>", "<start_of_turn>user\nx<end_of_turn>\n",
    "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\n", "<|eot_id|>", "<think>\nx\n</think>",
    "<tool_call>{}</tool_call>", "<｜User｜>hi<｜Assistant｜>", "<｜begin▁of▁sentence｜>",
    "<|user|>\nq<|end|>\n<|assistant|>", "<0x0A>", "<0xFF>", "[PAD1]", "▁", "▁▁", " ▁ ", "a▁b", "Ġ", "ĠtheĊ",
    "Ä", "<repo_name>", "<reponame>", "<|im_start|><|im_start|>  <|im_end|>\n",
    "def f(x):\n    return x + 1\n", "for (int i = 0; i < n; ++i) {\n\tsum += a[i];\n}\n",
    "if (a && !b || c == 0x1F) { /* c */ }", "SELECT * FROM t WHERE a='b';", "<div class=\"x\">&amp;</div>",
    "https://example.com/a/b?c=d&e=%20f#g", "user@example.com", "C:\\Users\\x\\y.txt", "/usr/local/bin/",
    "a_b-c.d", "snake_case_name", "camelCaseName", "HTTPServer2XML", "ABCdef", "ABC中D", "aB中Cd",
    "#!/bin/sh\n", "```python\nprint('x')\n```", "{\"a\": [1, 2, {\"b\": null}]}", "x**2 + y**2 == z**2",
    "a->b->c", "::std::vector<int>", "// ---------------------------------", "/* ======== */", "!!!", "?!?!",
    "...", "…", "—–-", "\"quoted\" «guillemets» „low“", "@#$%^&*()_+", "~`|\\", "a/b//c///\n", "x\n/\n/y",
    "!\n\n", "! \n", "?\r\n\r\nx", "word.\nNext", "(a)", " (a", "$x", "#x", ".x..x...x", "-abc -ABC",
    "^_^ T_T", "a" * 100, "A" * 77, "ab" * 60, " " * 33, " " * 100 + "x", "\n" * 50, "\t" * 40, "0" * 64,
    "!" * 80, "=" * 120, "é" * 40, "中" * 70, "😀" * 20, "\u0301" * 20, "ha" * 50 + "!", "-" * 65, "." * 300,
    "aaaa bbbb " * 20, "▁" * 20, "antidisestablishmentarianism", "supercalifragilisticexpialidocious",
    "Donaudampfschifffahrtsgesellschaft", "lorem ipsum dolor sit amet, consectetur adipiscing elit.",
    "The quick brown fox jumps over the lazy dog. 0123456789",
    "THIS AGREEMENT is made as of January 1, 2024 (the \"Effective Date\"), by and between:\n\n"
    "(a) Party A; and\n(b) Party B.",
    "E11.65 Type 2 diabetes mellitus with hyperglycemia", "Patient: 63 y/o M, BP 140/90 mmHg, HbA1c 8.2%",
]

INVALID = [
    b"\xff", b"\x80", b"\xc3", b"a\xc3", b"\xc3(", b"\xe2\x82", b"\xe2\x82x", b"\xe2(\xa1", b"\xf0\x9f\x98",
    b"\xf0\x9f\x98 x", b"\xf0\x28\x8c\xbc", b"\xed\xa0\x80", b"\xed\xbf\xbf", b"\xc0\xaf", b"\xe0\x80\xaf",
    b"\xf4\x90\x80\x80", b"\xfe\xfe\xff\xff", b"abc\xffdef", b" \xff ", b"\xff\xff\xff",
    b"ok \xf0\x9f\x98\x80 bad \xf0\x9f bad", b"\xe4\xb8\xad\xe4\xb8", b"caf\xe9", b"\xff\xfeh\x00i\x00",
    b"\xf8\x88\x80\x80\x80", b"1\xff2", b"\n\xff\n", b"<|im_start|>\xff<|im_end|>",
]

PARTS = [
    " ", "  ", "   ", "\n", "\n\n", "\r\n", "\t", "\u00a0", "\u3000", "the", "The", "THE", "ing", " of",
    "token", "izer", "Hello", "world", "foo_bar", "x", "I", "'s", "'LL", "'re", "1", "23", "456", "7890", ".",
    ",", "!", "?", "...", "-", "--", "(", ")", "[", "]", "{", "}", "/", "\\", "\"", "'", "`", "<", ">", "=",
    "+", "*", "&", "%", "$", "#", "@", "^", "~", "|", "_", "é", "e\u0301", "ü", "ß", "\u0301", "ñ", "Ж",
    "привет", "Ω", "中", "文字", "日本", "ひら", "カタ", "한국", "ا", "العربية", "नम", "ไทย", "😀", "👩‍💻", "🇯🇵", "️",
    "\u200d", "\u200b", "<|im_start|>", "<|im_end|>", "<s>", "</s>", "[INST]", "▁", "Ġ", "\x00", "\x1b[0m",
    "€", "£", "©", "½", "²", "٣", "ⅷ", "ǅ", "ʰ", "ª",
]
# fmt: on


def hard_strings() -> list[bytes]:
    strings = [text.encode() for text in HAND] + INVALID
    dice = random.Random(SEED)
    for count in [2] * 40 + [3] * 60 + [5] * 60 + [9] * 60 + [20] * 40 + [60] * 10:
        strings.append("".join(dice.choice(PARTS) for _ in range(count)).encode())
    # code points from everywhere below the surrogates and beyond, so that every category is met
    for _ in range(30):
        strings.append(
            "".join(
                chr(
                    dice.choice(
                        [
                            dice.randrange(0x20, 0x250),
                            dice.randrange(0x250, 0x2000),
                            dice.randrange(0x2000, 0x3400),
                            dice.randrange(0xA000, 0xD7A4),
                            dice.randrange(0xF900, 0xFB50),
                            dice.randrange(0x1F300, 0x1F650),
                        ]
                    )
                )
                for _ in range(dice.randrange(1, 30))
            ).encode()
        )
    for _ in range(20):  # valid text with bytes knocked out
        text = bytearray("".join(dice.choice(PARTS) for _ in range(8)).encode())
        for _ in range(2):
            text[dice.randrange(len(text))] = dice.randrange(256)
        strings.append(bytes(text))
    return strings
