"""What readers move and see: the kit, and one folder of explorers per paper.

theme.py                colours and the common figure layout
catalogue.py            finds every explorer and question
kit/                    what every explorer is made of
<paper>/<explorer>.py   record → View, and the controls around it
<paper>/posters/        what stands there without a kernel
"""
