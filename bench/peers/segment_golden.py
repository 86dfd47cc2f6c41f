#!/usr/bin/env python3
"""Write testdata/segment/golden.tsv: strings made from a seed, with the words of Python's jieba 0.42.1.

    pip install jieba==0.42.1
    python3 bench/peers/segment_golden.py

A line holds a text and the lengths of its words in characters, with the HMM and without. In the text, control characters, the
backslash and everything beyond the Basic Multilingual Plane's printable part is written as \\u{hex}.
"""

import logging
import pathlib

import jieba
from segment_corpora import PHRASES, Generator

LINES = 2000
SEED = 20200120
OUT = pathlib.Path(__file__).resolve().parents[2] / "testdata" / "segment" / "golden.tsv"
SENTENCES = (
    "", "我来到北京清华大学", "他来到了网易杭研大厦", "小明硕士毕业于中国科学院计算所，后在日本京都大学深造", "结婚的和尚未结婚的", "工信处女干事每月经过下属科室都要亲口交代24口交换机等技术性器件的安装工作",
    "南京市长江大桥", "如果放到post中将出错。", "机器学习的准确率从99.5%升到99.9%，用的是C++和C#", "TD-8型与TD-SCDMA标准", "AT&T公司的PH值是7.0", "江南style很火", "1号店和4S店", "隔壁老王在卡拉OK唱歌",
    "\r\n\r\r\n 全角　空格\t制表", "naïve的café在Москва", "𠮷野家和㐀㐁", "一二三四五六七八九十" * 8, "中华人民共和国" * 20, "龥" * 40, "a1" * 40, "的" * 70,
)  # fmt: skip


def escape(text):
    return "".join(char if char.isprintable() and char != "\\" and ord(char) < 0xFFF0 else f"\\u{{{ord(char):x}}}" for char in text)


def main():
    if jieba.__version__ != "0.42.1":
        raise SystemExit(f"needs jieba 0.42.1, found {jieba.__version__}")
    jieba.setLogLevel(logging.WARNING)
    jieba.initialize()
    generator = Generator(jieba.dt.FREQ, SEED)
    texts = dict.fromkeys((*SENTENCES, *PHRASES))
    while len(texts) < LINES:
        texts[generator.text()] = None
    lines = []
    for text in texts:
        lengths = (" ".join(str(len(word)) for word in jieba.cut(text, HMM=hmm)) for hmm in (True, False))
        lines.append("\t".join((escape(text), *lengths)))
    OUT.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"{len(lines)} lines")


if __name__ == "__main__":
    main()
